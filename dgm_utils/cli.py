"""`dgm`: nbjudge's command, with what only this course has."""

import sys

from nbjudge import cli


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    return cli.main(arguments, "dgm", _add)


def _add(commands):
    new = commands.add_parser("new-exercise", help="write the places of a new exercise, to fill in")
    new.add_argument("topic", help="the assignment; its files are made if it is new")
    new.add_argument("name", help="the function that students will write")
    new.add_argument("argument", nargs="*", default=["x"], help="of that function; default: x")
    new.set_defaults(command=_new_exercise)


def _new_exercise(options):
    from dgm_utils.authoring.new_exercise import new_exercise

    places = new_exercise(options.course, options.topic, options.name, options.argument)
    print("Fill these places in this order; docs/maintainers.md says how.")
    print("\n".join(str(place) for place in places if place.what))
    print(f"Then: dgm release {options.topic}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
