"""Numbers that are equal but for the time that passed meanwhile."""

SLACK = 15.0


class Near(float):
    """Equal to each number within `SLACK` of it."""

    def __eq__(self, other):
        return abs(float(self) - float(other)) <= SLACK

    __hash__ = None

    def __repr__(self):
        return f'about {float(self):.0f}'


def near(seconds):
    return Near(seconds)
