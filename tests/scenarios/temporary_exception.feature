Feature: An exception that ends by itself
  Het Kompas is closed for two weeks in January, and the portal gets the pupils' school e-mail to send them their timetable.
  The parents were told; it begins and ends by itself, and the audit log says that it was an exception (R21).

  Background:
    Given it is 15 January 2027
    And Emma is a pupil of Het Kompas

  @R21
  Scenario Outline: <when>
    When it becomes <day>
    And the SIS sends a group membership of Emma to the portal
      | school email | emma@kompas.example |
    Then only the portal gets a group membership of Emma
    And about Emma the portal sees only <what>
    And the audit log rests what the portal got on <exception>

    Examples:
      | when         | day             | what                    | exception                            |
      | before it    | 17 January 2027 | groups                  | no exception                         |
      | the first day | 18 January 2027 | groups and school email | the exception "afstandsonderwijs-2027" |
      | the last day | 29 January 2027 | groups and school email | the exception "afstandsonderwijs-2027" |
      | after it     | 30 January 2027 | groups                  | no exception                         |

  @R21
  Scenario: It is for this receiver and this attribute only
    When it becomes 18 January 2027
    And the SIS sends a group membership of Emma
      | school email    | emma@kompas.example |
      | school username | emma                |
    Then the portal, publisher Delta and the shop get a group membership of Emma
    And about Emma publisher Delta and the shop see only groups
    And about Emma the portal sees only groups and school email

  @R21
  Scenario: It is for this school only
    Given Sami is a pupil of De Werf
    When it becomes 18 January 2027
    And SIS Zuid sends a group membership of Sami to the portal
      | school email | sami@werf.example |
    Then only the portal gets a group membership of Sami
    And about Sami the portal sees only groups

  @R21
  Scenario: The parents are told before it begins
    When an exception gives the portal school username of Het Kompas in Toegang from 1 March 2027 to 5 March 2027, told to the parents on 2 March 2027
    Then the registry refuses it, because of "lies after start (R21)"

  @R21
  Scenario: It can not last for ever
    When an exception gives the portal school username of Het Kompas in Toegang from 1 March 2027 to 1 March 2029
    Then the registry refuses it, because of "what stays belongs in an agreement"

  @R21 @R10
  Scenario: What may never pass, no exception lets pass
    When an exception gives publisher Delta birth date of Het Kompas in Toegang from 1 March 2027 to 5 March 2027
    Then the registry refuses it, because of "an exception lifts nothing else"
