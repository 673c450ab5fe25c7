"""Execute lectures and store what they put out: `python lectures/execute.py [NOTEBOOK …]`.

All of them if none is named. Progress bars leave no trace, pieces of printed text are joined, and
figures are stored with at most 256 colours, so that a notebook stays small and a diff readable.
"""

import base64
import io
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

LECTURES = Path(__file__).resolve().parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def main(names: list[str]) -> None:
    """Execute the notebooks of these names; an error leaves the notebook as it was."""
    for path in map(Path, names) if names else sorted(LECTURES.glob("*.ipynb")):
        print(path.name, flush=True)
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, kernel_name="python3", record_timing=False).execute(cwd=LECTURES)
        notebook.metadata = nbformat.from_dict(METADATA)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = tidy(cell.outputs)
        nbformat.write(notebook, path)


def tidy(outputs: list) -> list:
    """The outputs as a reader sees them in the end."""
    tidied = []
    for output in outputs:
        last = tidied[-1] if tidied else {}
        if output.output_type == "stream" and output.name == last.get("name"):
            last.text += output.text
        else:
            tidied.append(output)
    for output in tidied:
        if output.output_type == "stream":
            # What follows a carriage return overwrites the line.
            lines = [line.split("\r")[-1] for line in output.text.split("\n")]
            output.text = "\n".join(lines)
        elif "image/png" in output.get("data", {}):
            output.data["image/png"] = smaller(output.data["image/png"])
    return [o for o in tidied if o.output_type != "stream" or o.text.strip()]


def smaller(png: str) -> str:
    """A picture in base64 with a palette, where that takes less room."""
    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    image.quantize(256, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return min(base64.b64encode(buffer.getvalue()).decode(), png.replace("\n", ""), key=len)


if __name__ == "__main__":
    main(sys.argv[1:])
