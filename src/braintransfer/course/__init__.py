"""The course: what its notebooks call (`lab`), the checks of their exercises, the copies and the slides made from the masters."""
