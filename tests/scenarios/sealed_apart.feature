Feature: Who it is about is sealed apart from what it says
  The ECK iD is kept encrypted and apart from all other data (R4). On its way each message has two sealed parts, each under
  a key of its own: a receiver can give its helpdesk the one and not the other. Parties can not compare what they have (R12).

  Background:
    Given it is 24 November 2026
    And Emma is a pupil of De Regenboog

  @R4
  Scenario: Two keys
    When publisher Delta sends a use of Emma to the portal
    Then only the portal gets a use of Emma
    And the portal can open who it is about without opening the rest
    And the portal can open the rest without opening who it is about

  @R4
  Scenario: Nobody else can open it
    When publisher Delta sends a use of Emma to the portal
    Then only the portal gets a use of Emma
    And the shop can not open what the portal got
    And the broker can not open what the portal got

  @R4 @R12
  Scenario: No id can be read anywhere
    When the SIS enrols Noah at De Regenboog
    And publisher Delta sends a use of Emma by her local id
    And publisher Delta sends a use of Noah
    Then no id of Emma and Noah can be read anywhere
    And no id of Emma and Noah can be read in the vault

  @R12
  Scenario: Two receivers can not find out by the keys that they have the same pupil
    When publisher Delta sends a use of Emma
    Then only the portal, the shop and the SIS get a use of Emma
    And the portal, the shop and the SIS have it under different keys

  @R12
  Scenario: The audit log has another token for her each time
    When publisher Delta sends a use of Emma to the portal
    And publisher Delta sends a use of Emma to the portal
    Then the audit log calls Emma by another name each time
