-- Back to an empty database; roles are the cluster's and stay.
DROP SCHEMA audit CASCADE;
DROP SCHEMA knowledge CASCADE;
DROP SCHEMA assistants CASCADE;
DROP SCHEMA queue CASCADE;
DROP SCHEMA identity CASCADE;
DROP SCHEMA ops CASCADE;
