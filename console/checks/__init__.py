"""The checks of `doctor`: each looks at one thing and says how it is, what that means, and what to do about it.

`registry` lists them all, `running` runs them: side by side where they look at different places, each bounded in time.
A check is a function of a `Sight` that yields findings. One that raises, or does not come back, is a finding too.
"""
