-- Back to no vault: what is in it cannot be brought back.

DROP TABLE vault.provider_keys, vault.secrets;
DROP SCHEMA vault;
