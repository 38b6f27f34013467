Feature: A teacher gets other groups
  Mr Bakker teaches 3b from now on. Portal and publishers hear it within minutes from the school's administration (R19).
  They know him by his employee number only if the agreement says so, else by a pseudonym of their own (R15).

  Background:
    Given it is 24 November 2026
    And Mr Bakker is a teacher of Het Kompas

  @R19
  Scenario: Who teaches which group goes to all who are connected for it
    When the SIS sends a teaching assignment of Mr Bakker
      | group | g3b |
    Then only the portal, publisher Delta, publisher West and the shop get a teaching assignment of Mr Bakker
    And about Mr Bakker publisher Delta sees only group

  @R15
  Scenario: Without a word in the agreement a pseudonym
    When the SIS sends a teaching assignment of Mr Bakker to publisher Delta
    Then only publisher Delta gets a teaching assignment of Mr Bakker
    And publisher Delta knows Mr Bakker by a pseudonym of its own only
    And the audit log says that publisher Delta did not get employee number, teacher name and teacher email

  @R15
  Scenario: With it in the agreement his employee number
    Given the agreement of Het Kompas with publisher Delta also names employee number
    When the SIS sends a teaching assignment of Mr Bakker to publisher Delta
    Then only publisher Delta gets a teaching assignment of Mr Bakker
    And publisher Delta knows Mr Bakker by his employee number only

  Scenario: The shop never knows him by his employee number
    Given the agreement of Het Kompas with the shop also names employee number
    When the SIS sends a teaching assignment of Mr Bakker to the shop
    Then only the shop gets a teaching assignment of Mr Bakker
    And the shop knows Mr Bakker by a pseudonym of its own only

  Scenario: The portal shows pupils who their teacher is, a publisher does not
    When the SIS sends a teaching assignment of Mr Bakker
      | group         | g3b        |
      | teacher name  | Jan Bakker |
      | teacher email | jb@kompas.example |
    Then the portal, publisher Delta, publisher West and the shop get a teaching assignment of Mr Bakker
    And about Mr Bakker the portal sees only group and teacher name
    And about Mr Bakker publisher Delta and the shop see only group
    And what the shop gets has no place for teacher name and teacher email
    And "Jan Bakker" can be read nowhere

  Scenario: A teacher waits for his own administration, not for an ECK iD
    Given Ms Jansen is at Het Kompas, which has not told of her yet
    When the SIS sends a teaching assignment of Ms Jansen to publisher Delta
    Then the message waits
    When it becomes 25 November 2026
    And the SIS enrols Ms Jansen at Het Kompas
    Then only publisher Delta gets a teaching assignment of Ms Jansen

  @R19
  Scenario: A teacher who left teaches no group
    When Mr Bakker leaves Het Kompas on 23 November 2026
    And the SIS sends a teaching assignment of Mr Bakker
    Then the SIS is told "subject.left"
    And nobody gets anything
    When the SIS sends a departure of Mr Bakker
    Then only the portal, publisher Delta, publisher West and the shop get a departure of Mr Bakker
    And about Mr Bakker publisher Delta sees nothing more
