"""Care of the installation: persona health, retention, backups.

The health check and the views of 002 and 004 stand in the migration alone.
"""

from db.models.ops.backups import Backup as Backup
from db.models.ops.health import HealthThreshold as HealthThreshold
from db.models.ops.health import PersonaHealthHour as PersonaHealthHour
from db.models.ops.health import PersonaHealthMetric as PersonaHealthMetric
from db.models.ops.health import PersonaHealthState as PersonaHealthState
from db.models.ops.installation import Installation as Installation
from db.models.ops.retention import Archive as Archive
from db.models.ops.retention import ArchiveSubject as ArchiveSubject
from db.models.ops.retention import ReleasedFile as ReleasedFile
from db.models.ops.retention import RetentionPolicy as RetentionPolicy
from db.models.ops.retention import RetentionRun as RetentionRun
