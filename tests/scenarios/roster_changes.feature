Feature: Groups change
  The school's administration tells of every change, and it flows on within minutes to those who are connected: a new group,
  another group, and who left (R19). Only active people have access.

  Background:
    Given it is 24 November 2026
    And Emma is a pupil of Het Kompas

  @R19
  Scenario: A new group, without the pupils in it
    When the SIS sends a group at Het Kompas
      | group      | g3c       |
      | group name | 3c Bakker |
      | level      | VO HAVO   |
    Then publisher Delta, publisher West, the portal and the shop get a group
    And nobody else gets anything
    And about the group publisher Delta sees only group, group name and level
    And about the group the shop sees only group and level
    And what the shop gets has no place for group name

  @R19
  Scenario: Emma goes to another group
    When the SIS sends a group membership of Emma
      | groups | g3c |
    Then only publisher Delta, publisher West, the portal and the shop get a group membership of Emma
    And it tells publisher Delta, publisher West, the portal and the shop
      | groups | g3c |
    When the SIS sends a group membership of Emma
      | groups | g3c, g3-wiskunde |
    Then only publisher Delta, publisher West, the portal and the shop get a group membership of Emma
    And it tells publisher Delta, publisher West, the portal and the shop
      | groups | g3c, g3-wiskunde |

  @R19 @R15
  Scenario: Each receiver gets of her what its agreement names
    When the SIS sends a group membership of Emma
      | given name         | Emma       |
      | family name prefix | van        |
      | family name        | Dijk       |
      | level              | VO HAVO    |
      | year group         | 13         |
    Then publisher Delta, publisher West, the portal and the shop get a group membership of Emma
    And about Emma publisher Delta and publisher West see only groups, given name, family name, level and year group
    And it tells publisher Delta and publisher West
      | family name | D |
    And about Emma the portal sees only groups, given name, family name prefix, family name, level and year group
    And it tells the portal
      | family name | Dijk |
    And about Emma the shop sees only groups, given name, family name prefix, family name and level
    And nobody else gets anything

  @R19
  Scenario: Who left is told of once more, and then no more
    When Emma leaves Het Kompas on 23 November 2026
    And the SIS sends a departure of Emma
    Then only publisher Delta, publisher West, the portal and the shop get a departure of Emma
    And about Emma publisher Delta, publisher West, the portal and the shop see nothing more
    When the SIS sends a group membership of Emma
    Then the SIS is told "subject.left"
    And nobody gets anything

  @R19
  Scenario: Emma was enrolled twice by mistake
    Given the SIS enrolled Emma at Het Kompas once more, as "L777"
    When the SIS makes the two enrolments of Emma at Het Kompas one
    And the SIS sends a group membership of Emma, as "L777"
    Then only publisher Delta, publisher West, the portal and the shop get a group membership of Emma
    And the portal and publisher Delta know Emma by her ECK iD only

  @R19 @R5
  Scenario: Only who is connected for it
    Given the SIS switches off the link for groups from the SIS to publisher Delta at Het Kompas
    When the SIS sends a group membership of Emma
    Then only publisher West, the portal and the shop get a group membership of Emma

  Scenario: A group without pupils is no pupil
    When the SIS sends a group of Emma
    Then the SIS is told "subject.not_allowed"
    And nobody gets anything

  Scenario: A pupil teaches no group
    When the SIS sends a teaching assignment of Emma
    Then the SIS is told "subject.kind"
    And nobody gets anything

  @R20
  Scenario: Only the school's own administration says who is in a group
    When publisher Delta sends a group membership of Emma to the portal
    Then publisher Delta is told "gate.route"
    And nobody gets anything
