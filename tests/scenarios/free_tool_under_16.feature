Feature: A free tool for pupils under 16
  The word game of publisher West is free. Below 16 a parent must have agreed; the agreement says so, and the school tells
  whether it has the parent's word (R26). For what the school buys no consent is needed, and from 16 none either.

  Background:
    Given it is 24 November 2026
    And Emma is a pupil of De Regenboog
    And the school says of Emma
      | under 16 | yes |

  @R26
  Scenario: No consent, nothing passes
    When publisher West sends a use of Emma
      | product | the word game |
    Then publisher West is told "consent.missing" for the portal
    And publisher West is told so in the words "The product needs the parents' consent for a pupil under 16, and the school has told of none."
    And nobody gets anything
    And the audit log has the refusal "consent.missing"

  @R26
  Scenario: Consent is given, and withdrawn again
    When the school says of Emma
      | consent for | the word game |
    And publisher West sends a use of Emma
      | product | the word game |
    Then only the portal gets a use of Emma
    When the school says of Emma
      | consent for | nothing |
    And publisher West sends a use of Emma
      | product | the word game |
    Then publisher West is told "consent.missing" for the portal
    And nobody gets anything

  @R26
  Scenario: What was wrong can be taken back, also without consent
    When publisher West sends a retracted use of Emma
      | product | the word game |
    Then only the portal gets a retracted use of Emma
    And about Emma the portal sees nothing more

  @R26
  Scenario: Consent for one product is none for another
    When the school says of Emma
      | consent for | the language course |
    And publisher West sends a use of Emma
      | product | the word game |
    Then publisher West is told "consent.missing" for the portal
    And nobody gets anything

  @R26
  Scenario: Bought material needs none
    When publisher West sends a use of Emma
      | product | the language course |
    Then only the portal, the shop and the SIS get a use of Emma

  @R26
  Scenario Outline: A pupil who is <age>
    Given Noah is a pupil of Het Kompas
    And the school says of Noah
      | under 16 | <under> |
    When publisher West sends a use of Noah
      | product | the word game |
    Then publisher West is told "<answer>" for the portal

    Examples:
      | age        | under | answer          |
      | 15         | yes   | consent.missing |
      | 16 or over | no    | ok              |

  @R26
  Scenario: A pupil of whom the school never said how old counts as under 16
    Given Noah is a pupil of Het Kompas
    When publisher West sends a use of Noah
      | product | the word game |
    Then publisher West is told "consent.missing" for the portal
    And nobody gets anything

  Scenario: Why a consent was given stays with the school
    When the school says of Emma
      | consent for | the word game |
    Then nobody gets anything
    And "formulier-12" can be read nowhere
    And in PO no form has a place for consents and under 16
