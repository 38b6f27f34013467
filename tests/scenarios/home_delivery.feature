Feature: Books that come home
  In VO a parcel with books may come to the pupil's home. The home address goes to the shop and to nobody else, only if
  something is delivered at home, and only if the agreement names it (R10, R15). In PO it never goes anywhere (R2).

  Background:
    Given it is 24 November 2026
    And Emma is a pupil of Het Kompas

  @R10 @R15
  Scenario: The address is on the parcel and nowhere else
    When the SIS sends a delivery address of Emma
      | material     | paper                            |
      | home address | Dorpsstraat 12, 1234 AB Ons Dorp |
      | given name   | Emma                             |
      | family name  | Jansen                           |
    Then only the shop gets a delivery address of Emma
    And about Emma the shop sees only home address, given name and family name
    And it tells the shop
      | home address | Dorpsstraat 12, 1234 AB Ons Dorp |
    And the audit log books what the shop got under BestellenLeveren
    And "Dorpsstraat" can be read nowhere

  @R15
  Scenario: On paper no ECK iD: the law has it for digital material
    When the SIS sends a delivery address of Emma
      | material | paper |
    Then only the shop gets a delivery address of Emma
    And the shop knows Emma by a pseudonym of its own only

  @R15
  Scenario Outline: Nothing is delivered at home, so no address passes
    When the SIS sends a delivery address of Emma
      | material | paper  |
      | delivery | <place> |
    Then the SIS is told "gate.policy" for the shop
    And the SIS is told so in the words "The policy does not let pass what this kind of event is about."
    And nobody gets anything

    Examples:
      | place        |
      | school       |
      | pickup point |

  @R15
  Scenario: The agreement does not name it
    Given the agreement of Het Kompas with the shop does not name home address
    When the SIS sends a delivery address of Emma
      | material | paper |
    Then the SIS is told "gate.policy" for the shop
    And nobody gets anything

  Scenario Outline: Nobody but the shop
    When the SIS sends a delivery address of Emma to <receiver>
    Then the SIS is told "gate.route" for <receiver>
    And nobody gets anything

    Examples:
      | receiver        |
      | the portal      |
      | publisher Delta |

  @R2 @R10
  Scenario: Never in PO, whatever an agreement says
    Given Noah is a pupil of De Regenboog
    And the agreement of De Regenboog with the shop also names home address and given name
    When the SIS sends a delivery address of Noah
      | material | paper |
    Then the SIS is told "gate.policy" for the shop
    And nobody gets anything
    And in PO no form has a place for home address

  Scenario: An address does not travel with an order
    When the SIS sends an order for Emma
      | home address | Dorpsstraat 12, 1234 AB Ons Dorp |
    Then the SIS is told "field.unused"
    And the SIS is told that it is about the home address
    And nobody gets anything

  @R2
  Scenario: In MBO the student is the buyer, and the shop answers for it itself
    Given Sami is a pupil of De Werf
    When SIS Zuid sends a delivery address of Sami
      | product  | the trade book |
      | material | paper          |
    Then only the shop gets a delivery address of Sami
    And about Sami the shop sees only home address
    And the audit log rests what the shop got on the agreement "winkel-mbo"
