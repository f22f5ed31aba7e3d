"""Trainings, and under `benches` what is measured; each file is the record of one."""
