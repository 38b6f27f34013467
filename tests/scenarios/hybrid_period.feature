Feature: The hybrid period
  Not every pupil has an ECK iD yet, and not every portal can do without the old ids. An agreement may allow a local id for a
  while, for pupils without an ECK iD only, with an end date (R13, R3). Pupils should notice as little as possible.

  Background:
    Given it is 24 November 2026
    And Emma is a pupil of De Regenboog
    And Noah is a pupil of De Regenboog without an ECK iD

  @R13
  Scenario: Until its end date a pupil without ECK iD is known by his local id
    When it becomes 31 July 2027
    And publisher Delta sends a use of Noah by his local id
    Then the portal, the shop and the SIS get a use of Noah
    And the portal knows Noah by his local id only
    And the shop knows Noah by a pseudonym of its own only

  @R13
  Scenario: The day after it by a pseudonym
    When it becomes 1 August 2027
    And publisher Delta sends a use of Noah by his local id
    Then the portal, the shop and the SIS get a use of Noah
    And the portal knows Noah by a pseudonym of its own only
    And the audit log says that the portal did not get local id
    And the SIS knows Noah by his local id only

  @R3 @R13
  Scenario: A pupil with an ECK iD is known by that, and by nothing else
    When publisher Delta sends a use of Emma by her local id
    Then only the portal, the shop and the SIS get a use of Emma
    And the portal and the shop know Emma by her ECK iD only

  @R13
  Scenario: An agreement can let it end earlier
    Given the agreement of De Regenboog with the portal allows local ids until 31 December 2026
    When it becomes 31 December 2026
    And publisher Delta sends a use of Noah by his local id to the portal
    Then only the portal gets a use of Noah
    And the portal knows Noah by his local id only
    When it becomes 1 January 2027
    And publisher Delta sends a use of Noah by his local id to the portal
    Then only the portal gets a use of Noah
    And the portal knows Noah by a pseudonym of its own only

  @R13
  Scenario: The ECK iD comes, and the local id goes
    Given Noah gets an ECK iD
    When publisher Delta sends a use of Noah
    Then only the portal, the shop and the SIS get a use of Noah
    And the portal and the shop know Noah by his ECK iD only

  @R13 @R16
  Scenario: Without an end date such an agreement is not taken
    When the agreement of De Regenboog with the portal is handed in without local ids until
    Then the registry refuses it, because of "is missing, and attributes names lasKey (R13)"
