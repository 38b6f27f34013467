Feature: An agreement in which something is missing
  An agreement says what the product does, which data, who has access, where they are kept, how they are protected, and whom
  to call (R16). One in which something is missing is not taken, and what is missing is named. Without an agreement nothing
  is delivered, also not when a supplier says that it needs none (R27).

  Background:
    Given it is 24 November 2026
    And Emma is a pupil of Het Kompas

  @R16 @R6
  Scenario Outline: Without <what>
    When the agreement of Het Kompas with publisher Delta is handed in without <what>
    Then the registry refuses it: <what> is missing

    Examples:
      | what                  |
      | model                 |
      | products              |
      | processes             |
      | attributes            |
      | access                |
      | storage country       |
      | retention             |
      | privacy contact       |
      | incident contact      |
      | security measures     |
      | incident arrangements |
      | subprocessors         |
      | valid until           |

  @R16
  Scenario Outline: An empty <what> is none
    When the agreement of Het Kompas with publisher Delta is handed in with <what> left empty
    Then the registry refuses it, naming <what>

    Examples:
      | what            |
      | access          |
      | privacy contact |

  @R16
  Scenario: What the product does, is said as well
    When the agreement of Het Kompas with publisher Delta is handed in, and its products do nothing
    Then the registry refuses it, because of "does: is missing"

  @R16
  Scenario: Kept outside Europe needs a reason
    When the agreement of Het Kompas with publisher West is handed in without outside eea basis
    Then the registry refuses it, because of "is missing, and CH lies outside the EEA"

  @R15
  Scenario Outline: A process with <what> is refused
    When the agreement of Het Kompas with publisher Delta is handed in, and its process Gebruik has <what>
    Then the registry refuses it, naming <which>

    Examples:
      | what              | which   |
      | no purpose        | purpose |
      | no basis          | basis   |
      | the basis "handy" | basis   |

  @R15
  Scenario Outline: No agreement may promise <what>
    When the agreement of Het Kompas with publisher Delta is handed in, and also promises <what>
    Then the registry refuses it, because of "<why>"

    Examples:
      | what          | why                          |
      | ethnicity     | ethnicity never passes       |
      | phone         | phone never passes           |
      | shoe size     | the policy knows no attribute |

  @R16
  Scenario: A whole one is taken
    When Het Kompas makes with publisher Oost the same agreement as with publisher Delta
    Then the registry takes it

  @R27
  Scenario: No agreement, no delivery
    Given Het Kompas has no agreement with the portal
    When publisher Delta sends a use of Emma to the portal
    Then publisher Delta is told "gate.agreement"
    And publisher Delta is told so in the words "No agreement (or not one that is valid today) covers this receiver, product and process."
    And nobody gets anything

  @R27 @R21
  Scenario: An exception opens no gate
    Given an exception gives publisher Oost given name of Het Kompas in Toegang from 24 November 2026 to 30 November 2026
    And the SIS accepts the link for groups from the SIS to publisher Oost at Het Kompas
    When the SIS sends a group membership of Emma to publisher Oost
      | given name | Emma |
    Then the SIS is told "gate.agreement"
    And nobody gets anything

  @R27
  Scenario: An agreement for one product is none for another
    When publisher Delta sends a use of Emma to the portal
      | product | the trade book |
    Then publisher Delta is told "gate.agreement"
    And nobody gets anything

  @R15
  Scenario: An agreement for ordering is none for results
    Given the agreement of Het Kompas with the portal is not for Terugkoppelen
    When publisher Delta sends a result of Emma
    Then only the SIS gets a result of Emma
    When publisher Delta sends a result of Emma to the portal
    Then publisher Delta is told "gate.agreement"
    And nobody gets anything
