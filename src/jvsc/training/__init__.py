"""The compiled training loop: state, epochs, data feed, devices, schedules."""
