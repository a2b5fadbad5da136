#!/usr/bin/env bash
# python.sh FOLDER: makes the wheel of clients/python in a folder, with the version of package.json, and prints where it is. It needs the
# environment that `make packages` installs, or the python of another one with clients/python/requirements.txt as FOEDUS_PYTHON, and no network. What is
# made from one commit is the same byte for byte.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$(mkdir -p "$1" && cd "$1" && pwd)
python=${FOEDUS_PYTHON:-$root/.tools/bin/foedus-python}
case $python in /*) ;; *) python=$PWD/$python ;; esac
cd "$root"
[ -x "$python" ] || { echo "the Python environment is missing: run make packages, or make tools" >&2; exit 1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/foedus-wheel-XXXXXX")
trap 'rm -rf "$work"' EXIT
cp -R clients/python/pyproject.toml clients/python/README.md LICENSE clients/python/src "$work/"
rm -rf "$work/src/foedus/_gen"
"$python" clients/python/generate.py "$work/src"
version=$(node -p 'require("./package.json").version')
printf '"""Version of the package."""\n\n__version__ = "%s"\n' "$version" >"$work/src/foedus/_version.py"

# Times within the wheel: those of the commit, or none.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 315532800)}
export SOURCE_DATE_EPOCH PYTHONDONTWRITEBYTECODE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INDEX=1
# Built by the setuptools that requirements.txt pins, which pip would else fetch anew.
"$python" -m pip wheel --quiet --no-deps --no-build-isolation --no-cache-dir --wheel-dir "$work/dist" "$work"
[ -f "$work/dist/foedus-$version-py3-none-any.whl" ] || { echo "pip made no foedus-$version-py3-none-any.whl, but $(ls "$work/dist")" >&2; exit 1; }
mv "$work/dist/foedus-$version-py3-none-any.whl" "$out/"
echo "$out/foedus-$version-py3-none-any.whl"
