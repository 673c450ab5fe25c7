// The search shows an excerpt of each page it finds. A browser does not let a page that was opened
// from the disk read another file, and would report an error for each; the hits themselves are there.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
