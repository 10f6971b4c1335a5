"""What operator, runtime and command line agree on: names, resources, messages, errors.

This package knows neither of its users and imports nothing but pydantic.
"""
