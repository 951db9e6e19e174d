#!/bin/sh
# Makes .cache/bench-venv hold the package, the stores it is compared with and what draws the plots.
# Needs .venv for nothing but its Python, which has the right age.
set -eu

cd "$(dirname "$0")/.."
venv=.cache/bench-venv
unset PYTHONHOME PYTHONPATH

wanted() { pwd -P; cat pyproject.toml benchmarks/requirements.txt benchmarks/requirements-peers.txt; }

if wanted | cmp -s - "$venv/.installed"; then exit 0; fi

echo "Installing the other stores into $venv (once; a few minutes)" >&2
rm -rf "$venv"
.venv/bin/python -m venv "$venv"
pip="$venv/bin/python -m pip install --quiet --disable-pip-version-check --no-user"
$pip -e '.[embedded]' -r benchmarks/requirements.txt
$pip --no-deps -r benchmarks/requirements-peers.txt
wanted >"$venv/.installed"
