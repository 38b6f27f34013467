Feature: A parent objects
  A publisher may get a parent's e-mail address to tell how to get in, on three conditions: the agreement names it, the
  parents were informed, and they did not object (R24). A school account comes first (R25). An objection stops the address,
  not the message.

  Background:
    Given it is 24 November 2026
    And Emma is a pupil of Het Kompas
    And the agreement of Het Kompas with publisher Delta also names parent email, private email and school email

  @R24
  Scenario: All conditions hold, and then the parents object
    Given the school says of Emma
      | school account   | no  |
      | parents informed | yes |
      | objection        | no  |
    When the SIS sends a group membership of Emma to publisher Delta
      | parent email | ouders.emma@mail.example |
    Then only publisher Delta gets a group membership of Emma
    And it tells publisher Delta
      | parent email | ouders.emma@mail.example |
    When the school says of Emma
      | objection | yes |
    And the SIS sends a group membership of Emma to publisher Delta
      | parent email | ouders.emma@mail.example |
    Then only publisher Delta gets a group membership of Emma
    And about Emma publisher Delta sees only groups
    And the audit log says that publisher Delta did not get parent email
    And "ouders.emma@mail.example" can be read nowhere

  @R24 @R25
  Scenario Outline: Not when <why>
    Given the school says of Emma
      | school account   | <account>   |
      | parents informed | <informed>  |
      | objection        | <objection> |
    When the SIS sends a group membership of Emma to publisher Delta
      | parent email  | ouders.emma@mail.example |
      | private email | emma@mail.example        |
    Then only publisher Delta gets a group membership of Emma
    And what publisher Delta gets leaves empty parent email and private email
    And the SIS is told "ok"

    Examples:
      | why                           | account | informed | objection |
      | there is a school account     | yes     | yes      | no        |
      | the parents were not informed | no      | no       | no        |
      | the parents objected          | no      | yes      | yes       |

  @R24
  Scenario: What the school never said does not hold
    When the SIS sends a group membership of Emma to publisher Delta
      | parent email | ouders.emma@mail.example |
    Then only publisher Delta gets a group membership of Emma
    And what publisher Delta gets leaves empty parent email

  @R24
  Scenario: Not when the agreement does not name it
    Given the agreement of Het Kompas with publisher Delta does not name parent email
    And the school says of Emma
      | school account   | no  |
      | parents informed | yes |
      | objection        | no  |
    When the SIS sends a group membership of Emma to publisher Delta
      | parent email  | ouders.emma@mail.example |
      | private email | emma@mail.example        |
    Then only publisher Delta gets a group membership of Emma
    And about Emma publisher Delta sees only groups and private email

  @R25
  Scenario: The school account passes as it is
    Given the school says of Emma
      | school account | yes |
    When the SIS sends a group membership of Emma to publisher Delta
      | school email  | emma@kompas.example |
      | private email | emma@mail.example   |
    Then only publisher Delta gets a group membership of Emma
    And about Emma publisher Delta sees only groups and school email

  Scenario: That they objected is nobody else's business
    When the school says of Emma
      | objection | yes |
    Then nobody gets anything
    And in VO no form has a place for contact flags

  @R24
  Scenario: A parent is not asked in MBO
    Given Sami is a pupil of De Werf
    And the agreement of De Werf with publisher Delta also names parent email
    And the school says of Sami
      | school account   | no  |
      | parents informed | yes |
      | objection        | no  |
    When SIS Zuid sends a group membership of Sami to publisher Delta
      | parent email | ouders.sami@mail.example |
    Then only publisher Delta gets a group membership of Sami
    And what publisher Delta gets has no place for parent email
