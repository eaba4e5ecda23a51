#!/bin/sh
# What a container of ours runs: `vllm serve`, whichever way people ask for it.
#
#   MODEL --flag …          --model MODEL --flag …         arguments of `vllm serve`
#   vllm serve MODEL …      vllm --version                 the command in full
#   python -m vllm.entrypoints.openai.api_server --model MODEL …   the line of older images
#   bash …   sh …   python …                               a look around
#
# exec throughout, so that the server itself gets SIGTERM. Arguments are handed on exactly as
# they came: no eval, no unquoted expansion.
set -eu

serve() {
    # Before the user's own flags, so that a --no-enforce-eager among them wins; but after the
    # model, which vLLM wants first.
    if [ "${SERVE_EAGER-}" = 1 ]; then
        case "${1-}" in
            -* | "")
                set -- --enforce-eager "$@"
                ;;
            *)
                model=$1
                shift
                set -- "$model" --enforce-eager "$@"
                ;;
        esac
    fi
    exec vllm serve "$@"
}

case "${1-}" in
    "")
        echo "Which model? For example: docker run … IMAGE facebook/opt-125m" >&2
        echo "The arguments are those of 'vllm serve'; --help lists them." >&2
        exit 2
        ;;
    vllm)
        if [ "${2-}" = serve ]; then
            shift 2
            serve "$@"
        fi
        exec "$@"
        ;;
    python | python3)
        if [ "${2-}" = -m ] && [ "${3-}" = vllm.entrypoints.openai.api_server ]; then
            shift 3
            serve "$@"
        fi
        # Some images have only `python3`.
        shift
        exec python3 "$@"
        ;;
    bash | sh | /bin/bash | /bin/sh)
        exec "$@"
        ;;
    *)
        serve "$@"
        ;;
esac
