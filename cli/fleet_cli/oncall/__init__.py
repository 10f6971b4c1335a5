"""What a person on call types: look at jobs, robots and versions, and press the buttons.

``world`` gathers, ``views`` and their makers are pure (objects → what is shown), ``text`` lays a
view out for people; ``--output json`` prints the view itself.
"""
