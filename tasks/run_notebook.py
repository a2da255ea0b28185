"""Executes one notebook with Deno's kernel, for tasks/notebooks.ts.

    python run_notebook.py IN OUT SECONDS

The outputs go to OUT; IN stays as it is. Deno's kernel says that a cell is done before it has sent all that the cell
shows, so that the client waits for outputs a moment longer than nbclient does by itself.
"""

import pathlib
import queue
import sys

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbclient.util import ensure_async

LATE_SECONDS = 0.2


class DenoClient(NotebookClient):
    """nbclient, with outputs that come after the end of their cell."""

    async def _async_poll_output_msg(self, parent_msg_id, cell, cell_index):
        await super()._async_poll_output_msg(parent_msg_id, cell, cell_index)
        while True:
            try:
                message = await ensure_async(self.kc.iopub_channel.get_msg(timeout=LATE_SECONDS))
            except queue.Empty:
                return
            if message["parent_header"].get("msg_id") == parent_msg_id:
                self.process_message(message, cell, cell_index)


def main(source: str, target: str, seconds: str) -> int:
    path = pathlib.Path(source).resolve()
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
            cell.execution_count = None
    client = DenoClient(
        notebook,
        timeout=int(seconds),
        kernel_name="deno",
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        print(error, file=sys.stderr)
        return 1
    nbformat.write(notebook, target)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
