"""What tests share: databases cloned from a template, a Redis of the suite's own, the engine, sample tasks."""
