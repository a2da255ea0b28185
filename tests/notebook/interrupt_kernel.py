"""Runs cells in Deno's kernel, interrupts the second, and prints what came of each as a JSON line.

    python interrupt_kernel.py FOLDER CELL...
"""

import json
import sys
import threading

from jupyter_client.manager import start_new_kernel


def main(folder: str, *cells: str) -> None:
    manager, client = start_new_kernel(kernel_name="deno", cwd=folder)
    try:
        for number, cell in enumerate(cells):
            shown = threading.Event()

            def heard(message):
                if message["msg_type"] in ("display_data", "update_display_data"):
                    # It is at work: this is when somebody would press Interrupt.
                    if number == 1 and not shown.is_set():
                        manager.interrupt_kernel()
                    shown.set()

            reply = client.execute_interactive(cell, output_hook=heard, timeout=240, store_history=False)["content"]
            print(json.dumps({key: reply.get(key) for key in ("status", "ename", "evalue")} | {"shown": shown.is_set()}))
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
