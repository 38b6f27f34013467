"""The demo: a school day on a real, secured Kafka. `story` is what happens, `stage` where, `report` what is shown."""
