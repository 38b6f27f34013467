Feature: From order to result in MBO
  Sami studies at De Werf and needs the trade book. From order to result each message belongs to one of the four processes,
  and each receiver gets what that process allows (R1, R2). Only in MBO does the exam office hear of irregularities.

  Background:
    Given it is 24 November 2026
    And Sami is a pupil of De Werf

  @R1 @R2 @R6b
  Scenario: The trade book of Sami
    When SIS Zuid sends an order for Sami
      | product | the trade book |
    Then only the shop gets an order for Sami
    And the audit log books what the shop got under BestellenLeveren
    And the audit log rests what the shop got on the agreement "winkel-mbo"
    When the shop sends an order confirmation for Sami to SIS Zuid
      | product | the trade book |
    Then only SIS Zuid gets an order confirmation for Sami
    When the shop sends an order line at De Werf to publisher West
      | product | the trade book |
    Then only publisher West gets an order line
    When the shop sends a licence for Sami
      | product | the trade book |
    Then only publisher West and the portal get a licence for Sami
    And publisher West and the portal know Sami by his ECK iD only
    When SIS Zuid sends a group membership of Sami
      | groups      | t1a        |
      | study code  | 25998      |
      | level       | MBO 4      |
      | given name  | Sami       |
      | family name | El Idrissi |
    Then publisher Delta, publisher West, the portal and the shop get a group membership of Sami
    And nobody else gets anything
    And the audit log books what publisher West got under Toegang
    And about Sami publisher West sees only groups, study code, level, given name and family name
    And it tells publisher West
      | family name | E |
    And about Sami publisher Delta sees only groups, level, given name and family name
    When publisher West sends a first use of Sami
      | product | the trade book |
    Then only the portal, the shop and SIS Zuid get a first use of Sami
    And the audit log books what the portal, the shop and SIS Zuid got under Gebruik
    When publisher West sends a result of Sami
      | product        | the trade book               |
      | grade          | 6.4                          |
      | irregularities | Sami keek bij zijn buurman af |
    Then only the portal and SIS Zuid get a result of Sami
    And the audit log books what the portal and SIS Zuid got under Terugkoppelen
    And it tells SIS Zuid
      | irregularities | Sami keek bij zijn buurman af |
    And what the portal gets has no place for irregularities
    And SIS Zuid knows Sami by his ECK iD and local id only
    When SIS Zuid sends a result receipt at De Werf to publisher West
      | product | the trade book |
    Then only publisher West gets a result receipt
    And "buurman" can be read nowhere

  @R2
  Scenario: In VO the administration hears of no irregularities
    Given Noah is a pupil of Het Kompas
    When publisher West sends a result of Noah
      | product        | the growth test               |
      | irregularities | Noah keek bij zijn buurman af |
    Then only the portal and the SIS get a result of Noah
    And what the portal and the SIS get has no place for irregularities

  @R1
  Scenario Outline: In <process> <receiver> gets no <what>
    Then in MBO no form for <process> of <receiver> has a place for <what>

    Examples:
      | process          | receiver  | what                        |
      | BestellenLeveren | publisher | given name and family name  |
      | Gebruik          | shop      | progress and progress note  |
      | Gebruik          | SIS       | progress and progress note  |
      | Terugkoppelen    | portal    | irregularities and comment  |
      | Toegang          | publisher | location                    |
