Feature: An onderwijsnummer becomes a BSN
  Emma came from abroad and got an onderwijsnummer; now she has a BSN. Her ECK iD stays the same, and no receiver notices
  (R13, R3). Neither number may ever be sent: it is an incident, and nothing of it goes on (R12).

  Background:
    Given it is 24 November 2026
    And Emma is a pupil of De Regenboog

  @R3 @R13
  Scenario: Receivers notice nothing
    When publisher Delta sends a use of Emma
    Then only the portal, the shop and the SIS get a use of Emma
    When the SIS replaces Emma's local id at De Regenboog
    Then nobody gets anything
    When publisher Delta sends a use of Emma
    Then only the portal, the shop and the SIS get a use of Emma
    And the portal and the shop know Emma by her ECK iD only
    And the SIS knows Emma by her ECK iD and local id only
    And the portal and the shop find it with what they had of Emma

  Scenario: The old number leads nowhere
    When the SIS replaces Emma's local id at De Regenboog
    And the SIS sends an order for the old number of Emma
    Then the SIS is told "subject.waiting"
    And nobody gets anything

  @R12
  Scenario Outline: The number itself is never sent as an id
    When the SIS enrols Emma at De Regenboog under the number "<number>"
    Then the message is in quarantine for "<code>", sealed for its sender and the operator
    And the SIS is told "<code>"
    And the SIS is told that it is about the user ids
    And the control log holds an incident of the SIS
    And nobody gets anything
    And "<number>" can be read nowhere

    Examples:
      | number    | code                |
      | 182071649 | pgn.bsn             |
      | 100310303 | pgn.onderwijsnummer |

  @R12
  Scenario: Nor between the words of a teacher
    When publisher Delta sends a progress report about Emma
      | progress note | Emma (BSN 1820.71.649) is al ver |
    Then the message is in quarantine for "pgn.bsn", sealed for its sender and the operator
    And the control log holds an incident of publisher Delta
    And nobody gets anything
    And "71.649" can be read nowhere

  Scenario: Each such message is held back, one incident a day is written down
    When the SIS enrols Emma at De Regenboog under the number "182071649"
    And the SIS enrols Emma at De Regenboog under the number "182071649"
    Then the SIS is told "pgn.bsn"
    And the control log holds 1 incident of the SIS
    When it becomes 25 November 2026
    And the SIS enrols Emma at De Regenboog under the number "182071649"
    Then the control log holds 2 incidents of the SIS

  Scenario: A school whose pupil numbers look that way says so beforehand
    Given De Regenboog says that its local ids look like "[0-9]{9}"
    When the SIS enrols Noah at De Regenboog under the number "182071649"
    Then the SIS is told "ok.vault"
    And nothing is in quarantine
    And the control log holds no incident
