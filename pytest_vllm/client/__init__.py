"""How tests talk to a server: `ask` sends a `Request`, checks judge the `Answer` or `Stream`.

    answer = ask(client, Request("POST", "/v1/completions", {...}))
    answer.check(is_json, has_shape(COMPLETION), has_usage)

A broken rule is a `CheckFailed`, whose message ends with the curl line that shows it again.
"""
