-- Back to a queue that keeps no statistics and raises no alerts.

DROP TABLE queue.alerts;
DROP TABLE queue.gauges;
DROP TABLE queue.statistics;
DROP TABLE queue.chores;
DROP INDEX queue.attempts_ended_at_idx;
