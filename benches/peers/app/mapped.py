"""An application with 150 SQLAlchemy classes: its import takes long, the configuration of its mappers too."""

from rq import Worker
from sqlalchemy import ForeignKey, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, configure_mappers, mapped_column, relationship

CLASSES = 150


class Base(DeclarativeBase):
    pass


def declare(number):
    """Table `number` of a ring: each row belongs to one of the next table and has many of the one before."""
    other, owned = (number + 1) % CLASSES, (number - 1) % CLASSES
    columns = {f'field{field}': mapped_column(default='') for field in range(8)}
    keys = {'id': Mapped[int], 'owner_id': Mapped[int | None]}
    members = {
        '__tablename__': f'table{number}',
        '__annotations__': keys | {name: Mapped[str] for name in columns},
        'id': mapped_column(primary_key=True),
        'owner_id': mapped_column(ForeignKey(f'table{other}.id')),
        # In a ring of tables SQLAlchemy must be told which side of each pair is the one.
        'owner': relationship(
            f'Table{other}',
            back_populates='owned',
            foreign_keys=f'Table{number}.owner_id',
            remote_side=f'Table{other}.id',
        ),
        'owned': relationship(f'Table{owned}', back_populates='owner', foreign_keys=f'Table{owned}.owner_id'),
    }
    return type(f'Table{number}', (Base,), members | columns)


tables = [declare(number) for number in range(CLASSES)]
engine = None


def record_event(number):
    """Writes one row, as an application does that stores what happened."""
    global engine
    if engine is None:
        engine = create_engine('sqlite://')
        Base.metadata.create_all(engine, tables=[tables[0].__table__])
    with Session(engine) as session:
        session.add(tables[0](field0=f'event {number}'))
        session.commit()
    return number


class Imported(Worker):
    """An `rq worker` that has imported the application before it forks."""


class Configured(Worker):
    """One that has configured the mappers, too: what a careful user does today."""

    def __init__(self, *args, **kwargs):
        configure_mappers()
        super().__init__(*args, **kwargs)


def preload():
    """The hook of pool: once, before the first fork."""
    configure_mappers()
