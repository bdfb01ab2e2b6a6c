-- Plans, quotas, usage and bills go.

DROP VIEW billing.token_usage_by_user;
DROP TABLE billing.billing_records, billing.usage_metrics, billing.tenant_quotas, billing.subscription_plans;
DROP SCHEMA billing;
