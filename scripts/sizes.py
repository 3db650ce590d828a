"""Tells how large the parts of a build folder are: zipped, as `sam deploy` uploads them, and as Lambda counts them."""

import io
import sys
import zipfile
from pathlib import Path

UNPACKED_LIMIT_MB = 250
"""A function with its layers (Lambda Developer Guide, "Lambda quotas", read 2026-11-20)."""


def sizes(folder: Path) -> tuple[int, int]:
    """Return the bytes of a folder, zipped and as they are."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, path.relative_to(folder))
    return zipped.tell(), sum(path.stat().st_size for path in files)


def report(build: Path) -> str:
    """Write one line a layer and function, the layers first."""
    parts = [*sorted(build.glob("*Layer")), *sorted(build.glob("*Function"))]
    found = {part.name: sizes(part) for part in parts}
    lines = [f"{name:22}{zipped / 1e3:9,.0f} kB zipped{raw / 1e3:9,.0f} kB" for name, (zipped, raw) in found.items()]
    layers = sum(raw for name, (_, raw) in found.items() if name.endswith("Layer"))
    return "\n".join([*lines, f"{'all layers':22}{layers / 1e3:28,.0f} kB of {UNPACKED_LIMIT_MB:,} MB"])


if __name__ == "__main__":
    sys.stdout.write(report(Path(sys.argv[1])) + "\n")
