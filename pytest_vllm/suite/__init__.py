"""The conformance suite: what a server must do, one file per endpoint.

Run it anywhere, against a server that is started for it or one that already runs:

    pytest --pyargs pytest_vllm.suite --vllm-model facebook/opt-125m
    pytest --pyargs pytest_vllm.suite --vllm-url http://127.0.0.1:8000
    pytest --pyargs pytest_vllm.suite -m core        # only what every model must do

A test names its level (`core` or `optional`) and its endpoint, sends one or two requests and
applies checks of `pytest_vllm.client`. Its name is the rule. None depends on what a real model
happens to say.
"""
