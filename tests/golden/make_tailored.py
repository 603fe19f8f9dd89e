"""Make `tailored.json` anew: what real llama-quantize writes by a chosen mix of types.

    python -m tests.golden.make_tailored --llama-bin FOLDER --check

The types are those of the file here, which `quantize --write-types` wrote; they stay.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.golden.command import HERE, SAMPLE, folder_of, parser, report, text_outcome

FILE = "tailored.json"


def _made(program: Path) -> str:
    asked = json.loads((HERE / FILE).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        rules, written = Path(folder, "types.txt"), Path(folder, "made.gguf")
        rules.write_text("".join(f"{line}\n" for line in asked["types"]), encoding="utf-8")
        arguments = ["--tensor-type-file", rules, SAMPLE, written, asked["preset"]]
        subprocess.run([program, *arguments], check=True, capture_output=True)
        asked["sha256"] = hashlib.sha256(written.read_bytes()).hexdigest()
    return json.dumps(asked, indent=1) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Quantize the sample once."""
    options = parser(__doc__)
    options.add_argument("--llama-bin", type=Path, required=True, help="where llama-quantize is")
    given = options.parse_args(arguments)
    made = _made((given.llama_bin / "llama-quantize").resolve())
    return report([text_outcome(FILE, made, folder_of(given))])


if __name__ == "__main__":
    sys.exit(main())
