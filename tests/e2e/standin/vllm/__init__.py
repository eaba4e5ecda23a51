"""A stand-in for vLLM: a fake, for faults that a healthy server does not produce.

It starts like vLLM (the same log lines, the same endpoints, a child process for the engine),
takes some milliseconds instead of a minute, and misbehaves as the variable STANDIN says:

    (unset)                     a healthy server of a base model
    exit:CODE                   exits while it starts, after the error of a full GPU
    busy_gpu                    the same, unless --gpu-memory-utilization leaves others their memory
    stall                       logs its first lines, and then nothing more, for ever
    slow:SECONDS                takes that long to load its weights
    crash_on_first_completion   dies at the first completion, without an answer
    die_after_error             answers the first completion with 500, and exits a moment later
    ignore_sigterm              has to be killed
    stray                       its engine leaves the session of its parent
    wrong_model                 serves another model than it was told to

Put the folder above this one on PYTHONPATH. Whoever wants to know whether something works with
vLLM asks vLLM: nothing here generates, and no test of the suite may rest on it.
"""

__version__ = "0.32.0"
