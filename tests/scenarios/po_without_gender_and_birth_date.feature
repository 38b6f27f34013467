Feature: Primary schools without gender and birth date
  Since school year 2018-2019 primary schools send no gender and no birth date to suppliers (R10). No process has a place for
  them but one: what a nationally normed or legal test's publisher gets, by an agreement that names them, for that test only.

  Background:
    Given it is 24 November 2026
    And Emma is a pupil of De Regenboog

  @R10 @R1
  Scenario Outline: No place for them in <process>
    Then in PO no form for <process> has a place for birth date and gender

    Examples:
      | process          |
      | BestellenLeveren |
      | Gebruik          |
      | Terugkoppelen    |

  @R10
  Scenario: In Toegang they stay empty, also where the agreement names them
    Given the agreement of De Regenboog with publisher Delta also names birth date and gender
    When the SIS sends a group membership of Emma
      | birth date | 3 May 2016 |
      | gender     | female     |
    Then the portal, publisher Delta, publisher West and the shop get a group membership of Emma
    And nobody else gets anything
    And what publisher Delta and publisher West get leaves empty birth date and gender
    And what the portal and the shop get has no place for birth date and gender
    And the audit log says that publisher Delta did not get birth date and gender

  @R10
  Scenario Outline: Not for <product> either
    When the SIS sends a group membership of Emma to <receiver>
      | product    | <product>  |
      | birth date | 3 May 2016 |
      | gender     | female     |
    Then only <receiver> gets a group membership of Emma
    And what <receiver> gets leaves empty birth date and gender

    Examples:
      | receiver        | product             |
      | publisher West  | the language course |
      | publisher Delta | the arithmetic book |

  @R10
  Scenario: For a test the portal has no place for them
    When the SIS sends a group membership of Emma to the portal
      | product    | the growth test |
      | birth date | 3 May 2016      |
      | gender     | female          |
    Then only the portal gets a group membership of Emma
    And what the portal gets has no place for birth date and gender

  @R10
  Scenario: In VO and MBO there is no place for them at all
    Then in VO no form has a place for birth date and gender
    And in MBO no form has a place for birth date and gender
