"""A soak of the pull: random bundles under random faults, until something is wrong or time is up.

truth.py     random repositories, and what every byte of them should be
trouble.py   what goes wrong meanwhile at the hub
puller.py    one pull of several models in a process of its own, to be stopped and killed
watch.py     looks at the store all the time: nothing wrong may be seen there, not even for a moment
rounds.py    one round of all that, and what must hold after it

The seed fixes what is chosen, not how threads and processes meet; a round that failed may need several tries.
"""
