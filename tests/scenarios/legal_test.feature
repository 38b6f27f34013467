Feature: The doorstroomtoets
  The law says what the maker of a doorstroomtoets gets of a pupil: initials, birth date and gender among them. They pass to
  the maker only, for that test only, in PO only, and only if the agreement names them (R10, R15). Its result has reference
  levels and an advice.

  Background:
    Given it is 25 January 2027
    And Emma is a pupil of De Regenboog

  @R10 @R15
  Scenario: Exactly what the law says
    When the SIS sends a group membership of Emma
      | product              | the doorstroomtoets |
      | given name           | Emma                |
      | initials             | E.J.                |
      | family name          | Jansen              |
      | birth date           | 3 May 2015          |
      | gender               | female              |
      | start year 3         | 1 August 2021       |
      | school email         | emma@regenboog.example |
    Then only the portal, the shop and publisher West get a group membership of Emma
    And about Emma publisher West sees only groups, given name, initials, family name, birth date and gender
    And it tells publisher West
      | birth date | 3 May 2015 |
      | initials   | E.J.       |
    And about Emma the portal sees only groups, given name and family name
    And about Emma the shop sees only groups
    And the audit log books what publisher West got under Toegang

  @R10
  Scenario: For the growth test another set, without initials
    When the SIS sends a group membership of Emma to publisher West
      | product      | the growth test |
      | initials     | E.J.            |
      | birth date   | 3 May 2015      |
      | gender       | female          |
      | start year 3 | 1 August 2021   |
    Then only publisher West gets a group membership of Emma
    And about Emma publisher West sees only groups, birth date, gender and start year 3

  @R10
  Scenario: For another product of the same publisher nothing of it
    When the SIS sends a group membership of Emma to publisher West
      | product      | the language course |
      | family name  | Jansen              |
      | initials     | E.J.                |
      | birth date   | 3 May 2015          |
      | gender       | female              |
      | start year 3 | 1 August 2021       |
    Then only publisher West gets a group membership of Emma
    And about Emma publisher West sees only groups and family name
    And it tells publisher West
      | family name | J |

  @R15
  Scenario Outline: Not what the agreement does not name: <what>
    Given the agreement of De Regenboog with publisher West does not name <what>
    When the SIS sends a group membership of Emma to publisher West
      | product    | the doorstroomtoets |
      | initials   | E.J.                |
      | birth date | 3 May 2015          |
      | gender     | female              |
    Then only publisher West gets a group membership of Emma
    And what publisher West gets leaves empty <what>
    And the audit log says that publisher West did not get <what>

    Examples:
      | what       |
      | initials   |
      | birth date |
      | gender     |

  @R10 @R15
  Scenario Outline: Not to the portal or the shop, whatever their agreements say: <test>
    Given the agreement of De Regenboog with the portal also names initials, birth date, gender and start year 3
    And the agreement of De Regenboog with the shop also names initials, birth date, gender and start year 3
    When the SIS sends a group membership of Emma
      | product      | <test>        |
      | given name   | Emma          |
      | initials     | E.J.          |
      | birth date   | 3 May 2015    |
      | gender       | female        |
      | start year 3 | 1 August 2021 |
    Then only the portal, the shop and publisher West get a group membership of Emma
    And what the portal and the shop get has no place for initials, birth date, gender and start year 3
    And about Emma the portal sees only groups and given name

    Examples:
      | test                |
      | the doorstroomtoets |
      | the growth test     |

  @R2 @R10
  Scenario: Not in VO, whatever an agreement says
    Given Noah is a pupil of Het Kompas
    And the agreement of Het Kompas with publisher West also names birth date and gender
    When the SIS sends a group membership of Noah to publisher West
      | product    | the growth test |
      | birth date | 3 May 2012      |
      | gender     | male            |
    Then only publisher West gets a group membership of Noah
    And what publisher West gets has no place for birth date and gender

  Scenario: The result, with reference levels and an advice
    When publisher West sends a result of Emma
      | product          | the doorstroomtoets                    |
      | result type      | skill score                            |
      | grade            | 538                                    |
      | reference levels | reading 2F, language 1F, arithmetic 1S |
      | advice           | havo, vwo                              |
    Then only the SIS and the portal get a result of Emma
    And it tells the SIS and the portal
      | reference levels | reading 2F, language 1F, arithmetic 1S |
      | advice           | havo, vwo                              |
