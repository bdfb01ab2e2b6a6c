"""What work is: payloads, task definitions, their schedules, outcomes, `enqueue`, and one folder a pipeline.

Knows no broker. A producer imports `pipelines.enqueue` and payload modules, which cost neither an ORM nor a model.
"""
