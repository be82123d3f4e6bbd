#!/bin/bash
# A job on Slurm:  sbatch cluster/slurm.sh ingest cemp input=/data/lrs store=/scratch/store   (docs/cluster.md)
#
# One task of Ray for each node, on nodes that nobody else uses: `ray symmetric-run` starts Ray everywhere, runs the
# command on the first node and stops Ray again. All nodes see this checkout, its .venv, input and store.
#SBATCH --job-name=survey
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:?start this with sbatch}"
[ $# -gt 0 ] || { echo "which job? sbatch cluster/slurm.sh JOB [RECIPE] [key=value ...]" >&2; exit 2; }
export PATH="$PWD/.venv/bin:$PATH" RAY_USAGE_STATS_ENABLED=0 OMP_NUM_THREADS=1

# Nobody else on the network can talk to this Ray. The token is made once, in your home folder, which nodes share.
export RAY_AUTH_MODE=token
[ -s "$HOME/.ray/auth_token" ] || (umask 077 && ray get-auth-token --generate >/dev/null)

nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=$(echo "$nodes" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 10000)) # another port for each job
# a short folder: the names of sockets have at most 107 letters
export RAY_TMPDIR="${TMPDIR:-/tmp}/ray-$SLURM_JOB_ID"

srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" mkdir -p "$RAY_TMPDIR"
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --kill-on-bad-exit=1 \
    ray symmetric-run --address "$head:$port" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus "${SLURM_CPUS_ON_NODE:-1}" --object-store-memory 2000000000 -- \
    survey "$@"
