"""Real servers for tests: started once per test run, in folders and on ports of their own, and stopped with the run.

A test asks for a fixture (`s3_settings`, `s3_root`, ...) and is marked `servers`. The first test that does starts the server; it
runs under a supervisor that ends when the test run does, however that ends.
"""
