-- What tenants use, as it is used: one row of billing.usage_metrics each time.

-- name: record_usage
-- The second that ends with the transaction's start: a period has a length, and its month is there.
INSERT INTO billing.usage_metrics (tenant_id, metric_type, metric_value, cost, period_start, period_end, metadata)
VALUES (%(tenant_id)s, %(metric_type)s, %(value)s, %(cost)s, now() - interval '1 second', now(), %(metadata)s)
