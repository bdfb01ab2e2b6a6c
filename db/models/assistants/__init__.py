"""Who answers, and what was said and done: personas, agents, clients, conversations, runs, workflows."""

from db.models.assistants.agents import Agent as Agent
from db.models.assistants.conversations import Client as Client
from db.models.assistants.conversations import Conversation as Conversation
from db.models.assistants.conversations import Message as Message
from db.models.assistants.personas import Persona as Persona
from db.models.assistants.personas import PersonaMember as PersonaMember
from db.models.assistants.personas import PersonaProfile as PersonaProfile
from db.models.assistants.personas import VoicePersona as VoicePersona
from db.models.assistants.runs import Run as Run
from db.models.assistants.runs import RunStep as RunStep
from db.models.assistants.workflows import Workflow as Workflow
from db.models.assistants.workflows import WorkflowExecution as WorkflowExecution
