"""Many tasks over many processes: a task is a function by name, with a key and JSON arguments.

A scene file is one kind of task (`scenes.scene_tasks`); whatever can continue where it was cut off may be another.
An engine runs tasks in processes of this machine or on a Ray cluster; `schedule.run_tasks` deals them out, and again
those whose process died.
"""
