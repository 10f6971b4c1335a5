"""A Kubernetes node that runs each container's command as a process of this user.

Of an image it knows nothing: a container's ``command`` is looked up on this machine, its mounts
are folders of the pod, and their paths are rewritten in the command and the environment.
"""
