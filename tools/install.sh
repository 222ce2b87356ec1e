#!/bin/sh
# Install into an environment what EXTRA of pyproject.toml needs, in the exact versions of constraints/EXTRA.txt.
#
#     UV=.venv/bin/uv tools/install.sh PYTHON_OF_THE_ENVIRONMENT EXTRA WHAT_TO_INSTALL...
#
# The default wheels of torch on Linux bring CUDA, several gigabytes. Without a GPU, torch's CPU build is installed
# first, where a configured index (UV_INDEX, UV_FIND_LINKS, UV_TORCH_BACKEND=cpu, or TORCH_INDEX) has it; it is then kept.
set -eu
python=$1 extra=$2
shift 2
constraints=$(dirname "$0")/../constraints/$extra.txt

# uv does not read pip's configuration: an index that pip is told to use is used by uv as well.
: "${UV_DEFAULT_INDEX:=$("$(dirname "$UV")/python" -m pip config list | sed -n "s/.*\.index-url='\(.*\)'$/\1/p" | tail -n 1)}"
export UV_DEFAULT_INDEX

builds=$(sed -nE 's/^(torch(vision)?==[^ ;]+).*/\1+cpu/p' "$constraints")
if [ -n "$builds" ] && [ "$(uname)" = Linux ] && ! ls /dev/nvidiactl /dev/dxg >/dev/null 2>&1; then
    # shellcheck disable=SC2086  # several packages
    "$UV" pip install --quiet --python "$python" --no-deps ${TORCH_INDEX:+--index "$TORCH_INDEX"} $builds 2>/dev/null ||
        echo "There is no GPU here, but no configured index has" $builds "either: the default wheels of torch bring" \
            "CUDA, several gigabytes. TORCH_INDEX=URL names an index that has CPU builds."
fi
exec "$UV" pip install --quiet --python "$python" --constraints "$constraints" "$@"
