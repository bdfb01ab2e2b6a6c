"""`retention.enforce` on measures of health: rolled up before they go, and emptied months with them."""

import pytest

from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.months import reading
from tests.support.retention_runs import OLD, OLDER, came_to, enforced

METRICS, HOURLY = "ops.persona_health_metrics", "ops.persona_health_hourly"
HOURS = "SELECT date_part('hour', measured_at AT TIME ZONE 'UTC') FROM ops.persona_health_metrics ORDER BY 1"


@pytest.fixture
def ours(database: Database) -> Factory:
    """The maker of the default tenant's rows, in a database where no policy is on."""
    database.rows("DELETE FROM ops.retention_policies WHERE name <> 'health-metrics'")
    database.rows("UPDATE ops.retention_policies SET is_enabled = false, most_share = 1")
    return Factory(database.connect(), database.value("SELECT identity.default_tenant_id()"))


def measures(ours: Factory, hour: str, count: int, rolled_up: int) -> None:
    """Write measures of an hour of a persona, of which so many are rolled up."""
    persona = ours.row("assistants.personas")["id"]
    for minute in range(count):
        ours.row(METRICS, persona_id=persona, measured_at=f"{hour}:{minute:02}+00")
    if rolled_up:
        ours.row(HOURLY, persona_id=persona, hour=f"{hour}:00+00", sample_count=rolled_up)


def test_measures_go_once_all_of_their_hour_is_rolled_up_and_emptied_months_with_them(
    database: Database, ours: Factory
) -> None:
    database.rows("UPDATE ops.retention_policies SET is_enabled = true WHERE name = 'health-metrics'")
    for month in (OLD, OLDER):
        database.rows("SELECT ops.create_month(%s::regclass, %s)", (METRICS, month))
    measures(ours, "2019-12-03 07", 3, 3)
    measures(ours, "2020-02-03 07", 3, 3)
    measures(ours, "2020-02-03 08", 3, 2)
    measures(ours, "2020-02-03 09", 3, 0)
    enforced(database)
    assert came_to(database, "health-metrics") == [("completed", 6, 0)]
    months = "SELECT partitions_dropped, rows_rolled_up FROM ops.retention_runs"
    assert database.rows(months) == [(["persona_health_metrics_2019_12"], 6)]
    assert database.rows(HOURS) == [(8.0,)] * 3 + [(9.0,)] * 3


def test_a_month_that_is_emptied_and_in_use_stays_for_the_next_run(database: Database, ours: Factory) -> None:
    database.rows("UPDATE ops.retention_policies SET is_enabled = true WHERE name = 'health-metrics'")
    database.rows("SELECT ops.create_month(%s::regclass, %s)", (METRICS, OLD))
    dropped = "SELECT partitions_dropped FROM ops.retention_runs ORDER BY id"
    with reading(database, "SELECT count(*) FROM ops.persona_health_metrics"):
        enforced(database)
        assert database.rows(dropped) == [([],)]
    enforced(database)
    assert database.rows(dropped) == [([],), (["persona_health_metrics_2020_02"],)]
