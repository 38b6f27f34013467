Feature: Set aside and sent again
  A message that the broker can not trust is set aside with its reason, sealed for its sender and for the operator (R12).
  Once the cause is gone, its sender has the broker look at it again: the same message, the same checks, once. Whoever looks
  into it later finds the first try by the second (R23).

  Background:
    Given it is 24 November 2026
    And Emma is a pupil of De Regenboog

  @R12 @R23
  Scenario: A school whose pupil numbers look like a BSN had not said so
    When the SIS enrols Noah at De Regenboog under the number "182071649"
    Then the message is in quarantine for "pgn.bsn", sealed for its sender and the operator
    And in quarantine it is open
    When De Regenboog says that its local ids look like "[0-9]{9}" from now on
    And the SIS replays the message
    Then the SIS is told "ok.vault"
    And in quarantine it is replayed
    And the audit log leads from the replay to the first try

  Scenario: While the cause is there, sending it again helps nothing
    When the SIS enrols Noah at De Regenboog under the number "182071649"
    And the SIS replays the message
    Then the SIS is told "pgn.bsn"
    And the audit log leads from the replay to the first try
    When De Regenboog says that its local ids look like "[0-9]{9}" from now on
    And the SIS replays the message
    Then the SIS is told "ok.vault"
    And the audit log leads from the replay to the first try

  Scenario: Once
    When the SIS enrols Noah at De Regenboog under the number "182071649"
    And De Regenboog says that its local ids look like "[0-9]{9}" from now on
    And the SIS replays the message
    And the SIS replays the same message a second time
    Then the SIS is told "replay.unknown"
    And nobody gets anything

  Scenario: What is wrong in the message itself is sent anew, not again
    When publisher Delta sends a progress report about Emma
      | progress note | Emma (BSN 1820.71.649) is al ver |
    And publisher Delta replays the message
    Then publisher Delta is told "pgn.bsn"
    And nobody gets anything
    When publisher Delta sends a progress report about Emma
      | progress note | Emma is al ver |
    Then only the portal gets a progress report about Emma

  @R12
  Scenario: Who looks inside sees what is wrong, and not the number
    When publisher Delta sends a progress report about Emma
      | progress note | Emma (BSN 1820.71.649) is al ver |
    Then the operator and publisher Delta, who look inside, see "Emma (BSN ####.##.###) is al ver"
    And they are told that it is about the progress note
    And the portal can not look inside
