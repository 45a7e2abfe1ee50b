// A root zone of our own with mail exchangers and their TLSA records, signed (ECDSA P-256, valid until 2084; made with
// dnspython), and the key of the exchangers' certificates that the good ones of these records name.
//
// Each domain has one exchanger, mx., at 127.0.1.1 (of clear.example at 127.0.1.2), whose records count for every port:
// good, other: they match; bad: they do not; useless: usage 1; none: there are none; forged: changed after signing. alias: its
// exchanger is an alias of mx.good.example; away: of a name that is not signed; implicit: no MX record. failover: bad, then
// good.

/// What SignedZones needs to serve it.
package enum SignedMail {
    /// Zones with it, and unsigned. below, where half. has mx.good.example and halfbad. has mx.bad.example.
    package static func zones() throws -> SignedZones {
        try SignedZones(
            key: key + "\n",
            root: zone.replacing(
                "TLSA 3 1 1 efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef",
                with: "TLSA 3 1 1 eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee") + "\n",
            unsigned: """
                unsigned. 3600 IN SOA ns. hostmaster. 1 3600 900 86400 3600
                unsigned. 3600 IN NS ns.
                mx.unsigned. 3600 IN A 127.0.1.1
                half.unsigned. 3600 IN MX 10 mx.good.example.
                halfbad.unsigned. 3600 IN MX 10 mx.bad.example.
                plain.unsigned. 3600 IN MX 10 mx.unsigned.

                """)
    }

    /// The private key of the exchangers' certificates, in PEM: of tests alone.
    package static let privateKey = """
        -----BEGIN PRIVATE KEY-----
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgvdtUBvUURgvv2D4T
        ROBA072LmbKFMgHOflWNAJpWpXqhRANCAASNJRuoUaMAbOXA8TivsrbqaQHGF3Yn
        OnTgGaAZjLKxpHFV8iDIB+MTUZLwJFWk3Lh/t70vVpvE2ow5AXb9AcrZ
        -----END PRIVATE KEY-----

        """

    private static let key =
        ". IN DNSKEY 257 3 13 vUxi9IpsRgwBMRMLi6tX1rBTFw+gyhey mik+d8/fqbc/pxrT/Id1KuQ5FJWsiiXu 0QRaRWtvbuFtfLBupzxL7w=="

    private static let zone = """
        . 3600 IN SOA ns. hostmaster. 1 3600 900 86400 3600
        . 3600 IN RRSIG SOA 13 0 3600 20840101000000 20200101000000 27844 . RnlQS5uIr4/7k1vPCXUKep85xkcF9XuC rtl9xVY+vZ3VoeV3XITE1qJGiilUPnmF N+7tZcnNVxo3UZdmd0WKaw==
        . 3600 IN NSEC alias.example. NS SOA RRSIG NSEC DNSKEY
        . 3600 IN NS ns.
        . 3600 IN DNSKEY 257 3 13 vUxi9IpsRgwBMRMLi6tX1rBTFw+gyhey mik+d8/fqbc/pxrT/Id1KuQ5FJWsiiXu 0QRaRWtvbuFtfLBupzxL7w==
        . 3600 IN RRSIG NS 13 0 3600 20840101000000 20200101000000 27844 . h2ifcIznzhq+fp1v6ht0Skg4s7/etOpu NiwZP/lQQcO0KzEL5okkw7lXefxuwjuW nLzVnoNWjNm75nDS9/rqxQ==
        . 3600 IN RRSIG DNSKEY 13 0 3600 20840101000000 20200101000000 27844 . 7RzqVwq0FM1PCSdiKEF0yVzcvj2Zz+OY NCjCy3kZRdaR7+fkXRx8Xyg1AQOUwA6j 3PPvnVYGs2NraZRGH2fNMA==
        . 3600 IN RRSIG NSEC 13 0 3600 20840101000000 20200101000000 27844 . 7z0i4QLbRBeZKmcTaIge0jzxyx6KzNae dULxgGGyXbvzIIo+NhSh4Ezxo3D/CFRj GbuQsf4GKAFSb1SmLtHKcQ==
        alias.example. 3600 IN MX 10 www.example.
        alias.example. 3600 IN RRSIG MX 13 2 3600 20840101000000 20200101000000 27844 . PwZfx1qs6Oswx8O1fC6xZ3kdeOHzz/O0 Jyw7PXM/8P8nVaxEJ1M29XhPgJ56ocl0 6xVXp6IwmUZt7Yylnfatbw==
        alias.example. 3600 IN NSEC away.example. MX RRSIG NSEC
        alias.example. 3600 IN RRSIG NSEC 13 2 3600 20840101000000 20200101000000 27844 . HTw9aky8Xti4eaHksznrZNUs3iYkSrYW 5Zf8hxC+JA8E0xufEbApwrq0tDVBgxd+ 1D2QVn/epH0XBjKjMpaVBw==
        away.example. 3600 IN MX 10 gone.example.
        away.example. 3600 IN RRSIG MX 13 2 3600 20840101000000 20200101000000 27844 . Ce8xhqKqycHhCUtSF/G1CPEzK9R/hGcM /lAgHoxONe4VpN486vbeQN6KYcLjGtsQ P0+N7UMsSEJ9V58NipB+Gw==
        away.example. 3600 IN NSEC bad.example. MX RRSIG NSEC
        away.example. 3600 IN RRSIG NSEC 13 2 3600 20840101000000 20200101000000 27844 . LIvKlC5IuyHjQZ28E861oYZ16Sh4+vaE qElpL5a+oW16v0LxWhdlyF56m8x6Xv/+ 8vbRinE1m3bNOS5HXPIbSA==
        bad.example. 3600 IN MX 10 mx.bad.example.
        bad.example. 3600 IN RRSIG MX 13 2 3600 20840101000000 20200101000000 27844 . mu+rlq/uQWlFT2RV+BXURicBczeOYhDZ 629Rl6fB7sf0+C4ZyydXJv8Nyeo4DBqh yV4i3aKHZxhe1D94ehX9ig==
        bad.example. 3600 IN NSEC mx.bad.example. MX RRSIG NSEC
        bad.example. 3600 IN RRSIG NSEC 13 2 3600 20840101000000 20200101000000 27844 . ibsHB1gKWT3b2GnznGGHhSyEhUNSk03y 4YnkDjGYlyGFBGUpS3BtiGAucNzoKf27 j87FYQDsMtpmL9RtI5Xv6A==
        mx.bad.example. 3600 IN A 127.0.1.1
        mx.bad.example. 3600 IN RRSIG A 13 3 3600 20840101000000 20200101000000 27844 . /qsqzOr0fYNq1MWf+gqVPOwzpBsn7FYn U7KSrZUgpS7vPx0PBo00bim9kLTO09U5 2GvZ6It9MROPpt5mIApxcg==
        mx.bad.example. 3600 IN NSEC *._tcp.mx.bad.example. A RRSIG NSEC
        mx.bad.example. 3600 IN RRSIG NSEC 13 3 3600 20840101000000 20200101000000 27844 . 2u5POuEp2ykOwjOeIaWLa7Rup7qxy5G4 Dw3gZPuRO+u3bNX/j0Y+GAv4tKtLOlcM E3NG4HQUnEst2NWuum8LdQ==
        *._tcp.mx.bad.example. 3600 IN TLSA 3 1 1 abababababababababababababababababababababababababababababababab
        *._tcp.mx.bad.example. 3600 IN RRSIG TLSA 13 4 3600 20840101000000 20200101000000 27844 . pJ1ByoWB69NNVvSSlvrmrY3PuOfx+rZ6 Yq2a7LWkOFWFgBqHb4VCbRhYn5mGvqjo DnZAT7SB5J7TJOQiy54pfA==
        *._tcp.mx.bad.example. 3600 IN NSEC clear.example. RRSIG NSEC TLSA
        *._tcp.mx.bad.example. 3600 IN RRSIG NSEC 13 4 3600 20840101000000 20200101000000 27844 . vAandFaypiqJ3Y+op1a/6srviExDBc8g Vi/aEP5gQEK06wW0TUxpPYA4TkkUgCkK w36163kmjhF0UaevyffsMA==
        clear.example. 3600 IN MX 10 mx.clear.example.
        clear.example. 3600 IN RRSIG MX 13 2 3600 20840101000000 20200101000000 27844 . sqOHpi6R5XO+ZpJdlQNlQPH8gY3IOnZJ a7ynXwQVALrd5fNgq4LwRvNCBfEYzWho yXhXJsAd2294wGIBJhGlkA==
        clear.example. 3600 IN NSEC mx.clear.example. MX RRSIG NSEC
        clear.example. 3600 IN RRSIG NSEC 13 2 3600 20840101000000 20200101000000 27844 . +N4n655yixM2JHv9WMvH63ffbNfGsj9o EP2hkPUEArW5/KFIg9MfnsoyNwCku6yD WyEhThykQSMBOQnWxNVMiw==
        mx.clear.example. 3600 IN A 127.0.1.2
        mx.clear.example. 3600 IN RRSIG A 13 3 3600 20840101000000 20200101000000 27844 . ImNOKBvO24VRrRUZa4NSWzLx7rFY8zRr dqmWvwh9+sBMds67MnhfqUILExz6NZb6 x1lRtfBHrWQGWk8v5nUg5Q==
        mx.clear.example. 3600 IN NSEC *._tcp.mx.clear.example. A RRSIG NSEC
        mx.clear.example. 3600 IN RRSIG NSEC 13 3 3600 20840101000000 20200101000000 27844 . qTmA+iVU3eoyxLGUnVSAlelMSJHsJm1O SMnu2ftAQ2VpzKA5EX0R6RdnYjJhNY3v h1gTNe2VO6o/il7O4xQhXw==
        *._tcp.mx.clear.example. 3600 IN TLSA 3 1 1 db99e7e9ec443aaa7c6cf24793603ec5ee3fc0cd737c76322bb8b5b36c46154a
        *._tcp.mx.clear.example. 3600 IN RRSIG TLSA 13 4 3600 20840101000000 20200101000000 27844 . Kego2dalRX8K2/IAE4j99PSnOVEQyY7C wh26kgIOv0g+Q8qCmA+ZgOMY9P561Dd0 UtMtSuz/0fHAQ8ojMN1fgA==
        *._tcp.mx.clear.example. 3600 IN NSEC failover.example. RRSIG NSEC TLSA
        *._tcp.mx.clear.example. 3600 IN RRSIG NSEC 13 4 3600 20840101000000 20200101000000 27844 . Gqzj22RhW1HPcOBOx4KZVuDwzGLigdHQ Y4FzKR1aaPLQ2C2jblOVKNopXr/b+mGw xqNnx987gXMO0QcxBH+UNg==
        failover.example. 3600 IN MX 10 mx.bad.example.
        failover.example. 3600 IN MX 20 mx.good.example.
        failover.example. 3600 IN RRSIG MX 13 2 3600 20840101000000 20200101000000 27844 . axRw337FX2JaiZsKX/Sw7lTp43WlbVql I/5zkIw2OyWgMeIP4jjRJyPdq9QJTftj lGeIKIA6KY1Et8BO1jipGQ==
        failover.example. 3600 IN NSEC forged.example. MX RRSIG NSEC
        failover.example. 3600 IN RRSIG NSEC 13 2 3600 20840101000000 20200101000000 27844 . kdd7iLkIl1UAEZK9d4c61qTQLA/fRiLm vN4iLLUmg4uOvf2VG1aGMCwER3pDkGyY fI40isyZ+mqJ7RjP7n6uOw==
        forged.example. 3600 IN MX 10 mx.forged.example.
        forged.example. 3600 IN RRSIG MX 13 2 3600 20840101000000 20200101000000 27844 . woHelrLZPHVRHelHyGHi/SkjIm3pSBqA CHkRuA3hF8rDnMYwJCem/5GYFpDsBOOy RNchJD+1bQd4B+RLa05BCg==
        forged.example. 3600 IN NSEC mx.forged.example. MX RRSIG NSEC
        forged.example. 3600 IN RRSIG NSEC 13 2 3600 20840101000000 20200101000000 27844 . o1AKgpaHxFgTGR7u1WD5+cY0GnOGp85u OvodTPqQehpARN2qrQuiGca1yZu618OA XtC2iyFdYAAfgY2ORGGHvQ==
        mx.forged.example. 3600 IN A 127.0.1.1
        mx.forged.example. 3600 IN RRSIG A 13 3 3600 20840101000000 20200101000000 27844 . E0Llp7/aVpDcbOfTm20UAvYMv2QUnv4q C8JUMOJzKhKf9ogT6rGwSeUZvQUrvlQr 1DjITiGpryzh9WT2tE7JqQ==
        mx.forged.example. 3600 IN NSEC *._tcp.mx.forged.example. A RRSIG NSEC
        mx.forged.example. 3600 IN RRSIG NSEC 13 3 3600 20840101000000 20200101000000 27844 . rZUYtY7WE0Thx1mrvFLiiRdFzMmdSyGj wl/nAtXAuMlSP/4ooAusAWDzEwb7OmAn rxSCH1CY88JFphTfEqfOBA==
        *._tcp.mx.forged.example. 3600 IN TLSA 3 1 1 efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef
        *._tcp.mx.forged.example. 3600 IN RRSIG TLSA 13 4 3600 20840101000000 20200101000000 27844 . 6qDuFGPjFRnzFaOji+BurhMlOx0Gy6eo sx3gFKn7EUkSovhOXKYcGgPkjkNhfeYr M/HtzB0zYgrBOPcyrqZH2Q==
        *._tcp.mx.forged.example. 3600 IN NSEC gone.example. RRSIG NSEC TLSA
        *._tcp.mx.forged.example. 3600 IN RRSIG NSEC 13 4 3600 20840101000000 20200101000000 27844 . jXvHnBzX0MOBK+amDp47IhUgr3qgj7U2 cP1ReWADwtNY4nWw+xhE+iSPYgLJKOUM fFfZnJe2lTTjvOOzDwFo4Q==
        gone.example. 3600 IN CNAME mx.unsigned.
        gone.example. 3600 IN RRSIG CNAME 13 2 3600 20840101000000 20200101000000 27844 . /EORk0jL7jMgOL/MizCmsEza6MJgpAAy GdvoLrteG2I/hAGsECrND0osgcVy988j lQs74f+XKTrpC8KtzhAkiQ==
        gone.example. 3600 IN NSEC *._tcp.gone.example. CNAME RRSIG NSEC
        gone.example. 3600 IN RRSIG NSEC 13 2 3600 20840101000000 20200101000000 27844 . 6SHa+MEFzj1F6s4xu0W/INDE8rcY+/id Nw1UFzrpgRRBOmViLi3fotF2hDM03mkJ wfb/fiPtO/wK7ufAEVkxAA==
        *._tcp.gone.example. 3600 IN TLSA 3 1 1 abababababababababababababababababababababababababababababababab
        *._tcp.gone.example. 3600 IN RRSIG TLSA 13 3 3600 20840101000000 20200101000000 27844 . vRgGtv13SsCbA1OUZW4XpqtYygtzrPAi Ktp99krw238NNsNZ5OW0W6dvdnYALw7o AHBix1TTjPY10TZuM5NUcQ==
        *._tcp.gone.example. 3600 IN NSEC good.example. RRSIG NSEC TLSA
        *._tcp.gone.example. 3600 IN RRSIG NSEC 13 3 3600 20840101000000 20200101000000 27844 . UoJZHbjy6/w+68nkRvyaPIZsrTnUXbbJ 4RHjJnOO/gEvw2aRcLKLPJcz2Rh9EXdp Qm+RUyO6icwXO6a7kS8/gg==
        good.example. 3600 IN MX 10 mx.good.example.
        good.example. 3600 IN RRSIG MX 13 2 3600 20840101000000 20200101000000 27844 . BqCrwSOwYLBV0k1KHGWrSC0GxUIT66w8 kuqE+1JA7wRwB5x6OVo2+tFb5/irYZPM NRK/m/6T147HwramVtxRZQ==
        good.example. 3600 IN NSEC mx.good.example. MX RRSIG NSEC
        good.example. 3600 IN RRSIG NSEC 13 2 3600 20840101000000 20200101000000 27844 . 9LZh+4bTW332jbZe/o0/sjiC2DV3Shdi T1/zy4SZP8Q2p+tEqUvWCVWDlFOivPMV /lss+tz5iJ8VJrYwGKQxOA==
        mx.good.example. 3600 IN A 127.0.1.1
        mx.good.example. 3600 IN RRSIG A 13 3 3600 20840101000000 20200101000000 27844 . 0CMI4ZtDGW1ecvFsaqmBqK6Vxr75TUci oy3ka/GgtzKBFN4WRmJ/aI26KSSfNANV VGftXwNR4m5Le6kae39DtA==
        mx.good.example. 3600 IN NSEC *._tcp.mx.good.example. A RRSIG NSEC
        mx.good.example. 3600 IN RRSIG NSEC 13 3 3600 20840101000000 20200101000000 27844 . VptKPCMFl/ntUjpUg4tkRpIOI9FEwteM dBVHziu8qy2HtTMm3RyjYOZiwe2Ize4/ mi441LHBGdSqU3xm0Pv7uA==
        *._tcp.mx.good.example. 3600 IN TLSA 3 1 1 db99e7e9ec443aaa7c6cf24793603ec5ee3fc0cd737c76322bb8b5b36c46154a
        *._tcp.mx.good.example. 3600 IN RRSIG TLSA 13 4 3600 20840101000000 20200101000000 27844 . 9yv10hcodKzwxJp1oamXnT0CZ2/G6zhq X7QYWtZkTpVFw6lhwzRoqgtGu1QZK9BX oyXdveQdOh66D1hW3+xkUA==
        *._tcp.mx.good.example. 3600 IN NSEC implicit.example. RRSIG NSEC TLSA
        *._tcp.mx.good.example. 3600 IN RRSIG NSEC 13 4 3600 20840101000000 20200101000000 27844 . KnuZO9ltXUAhN2oL1AJN0WvGzhFGYyz8 7ptbY5Lql7GLbedj63hShnLi/PQpkaWD srPUCLx9/wago4t0JsLu5Q==
        implicit.example. 3600 IN A 127.0.1.1
        implicit.example. 3600 IN RRSIG A 13 2 3600 20840101000000 20200101000000 27844 . BH6oWRrJRPnsTg7TmyR0CqBgBpXVgaKI dRPyGUMm6I9D6Kxnm3vPqedgE0I2jJe3 ywHWm8VWVmjPkEhheKCZzA==
        implicit.example. 3600 IN NSEC *._tcp.implicit.example. A RRSIG NSEC
        implicit.example. 3600 IN RRSIG NSEC 13 2 3600 20840101000000 20200101000000 27844 . oLlw77T2aObr5GP/DtdUdR0GEqUia3/o tiSzFSvgBbeiQycvCGOKVe/QYHBLfzVE tAP8GyeACbtzMfkM3KysNQ==
        *._tcp.implicit.example. 3600 IN TLSA 3 1 1 db99e7e9ec443aaa7c6cf24793603ec5ee3fc0cd737c76322bb8b5b36c46154a
        *._tcp.implicit.example. 3600 IN RRSIG TLSA 13 3 3600 20840101000000 20200101000000 27844 . 68tByB1L7zHOliFvgrs8rIkF2L0ibZzB xPU3dZPfSrfJdxwQ0erLzpSN7ukJpjO4 ETFXvb/Woy/6HoMRdSlKaA==
        *._tcp.implicit.example. 3600 IN NSEC none.example. RRSIG NSEC TLSA
        *._tcp.implicit.example. 3600 IN RRSIG NSEC 13 3 3600 20840101000000 20200101000000 27844 . vR2II1D8u8g8XpCDfiPwqOM+p0PkraFk w00J/eU8Fy3IUTATNuT4CT9U2w+XfHsp NPZsBru8PzUCWmMC+9LSdw==
        none.example. 3600 IN MX 10 mx.none.example.
        none.example. 3600 IN RRSIG MX 13 2 3600 20840101000000 20200101000000 27844 . 1PXoiTaGwyRP1IxjOCvYRNYvh/YMWQZ7 faCwb88xcnmhcoytPiZKSslC++hu1or1 R8l4Axfg59DCQvG7JikzQQ==
        none.example. 3600 IN NSEC mx.none.example. MX RRSIG NSEC
        none.example. 3600 IN RRSIG NSEC 13 2 3600 20840101000000 20200101000000 27844 . ed0vh28RxD5HkrjHeFPPVzZHNpYegzQ/ evjzR4HlTNWIhlf39wTdKknOqhmLZIvC d+ZVCNWLjiRs9MOXqFuclQ==
        mx.none.example. 3600 IN A 127.0.1.1
        mx.none.example. 3600 IN RRSIG A 13 3 3600 20840101000000 20200101000000 27844 . o+N4F1IqOSFinslubyT4sS2IozAtLibm 6apYn3Ij7fCNWGGT5/ZnAP2nkYlROQnT LHjGzxHxN1VC2uK3M+qUkA==
        mx.none.example. 3600 IN NSEC other.example. A RRSIG NSEC
        mx.none.example. 3600 IN RRSIG NSEC 13 3 3600 20840101000000 20200101000000 27844 . s5SK0jQNTMj2nlNggi517hgmt3dkCktt 3HWveLYYPisg2gR/46YJNRpkiLtDyKua yn7An0B/+6ZoI5NLNmyXPA==
        other.example. 3600 IN MX 10 mx.other.example.
        other.example. 3600 IN RRSIG MX 13 2 3600 20840101000000 20200101000000 27844 . AxJXcotre0ouMymESrGiRA+zFPXbBZdG roZBjBc0tvc2S8lD0S+r39+2h0ZZxtRe gmIeY0x1C6EXJJpsmi7IFg==
        other.example. 3600 IN NSEC mx.other.example. MX RRSIG NSEC
        other.example. 3600 IN RRSIG NSEC 13 2 3600 20840101000000 20200101000000 27844 . t7M4853681ynpkDLnDiRh0KvXdibd+Sa gqFELEiEefOsBnZgZFPPNI14KC/J8Fdv +61xtWQ0wDAcwfwhWjXiig==
        mx.other.example. 3600 IN A 127.0.1.1
        mx.other.example. 3600 IN RRSIG A 13 3 3600 20840101000000 20200101000000 27844 . 2aqrNk75pncmqlLaMH9AaPgeWuJxsZHu QEAtY1kx9hIyhOALUHdzDSPyS4Ls9yGd 9rwH/qkcK8kJKJu0wmCZ9A==
        mx.other.example. 3600 IN NSEC *._tcp.mx.other.example. A RRSIG NSEC
        mx.other.example. 3600 IN RRSIG NSEC 13 3 3600 20840101000000 20200101000000 27844 . 4m8X1rv6DaCukEq6/o6sbdSG/mrv5/5f AFBDp03cFHJL7MRxGxfUM7/RutgxuqF9 wCeH9R/MtHpY6efXH376nA==
        *._tcp.mx.other.example. 3600 IN TLSA 3 1 1 db99e7e9ec443aaa7c6cf24793603ec5ee3fc0cd737c76322bb8b5b36c46154a
        *._tcp.mx.other.example. 3600 IN RRSIG TLSA 13 4 3600 20840101000000 20200101000000 27844 . ldN1gcUyPYoz7di4Q3rMiTeayXZktOnT 6oZWzNtE7G4Ded2EwnVvTIgEoOsPeXW3 OIU7jf/jVzOT8ekLAVw6cg==
        *._tcp.mx.other.example. 3600 IN NSEC useless.example. RRSIG NSEC TLSA
        *._tcp.mx.other.example. 3600 IN RRSIG NSEC 13 4 3600 20840101000000 20200101000000 27844 . fJyZT2vOtK613729TfUZL/jTyuJ6JywR iB8MbEzQZzdo28mEDUlnaAXSLaf4WUPx EPAfXiIve8xVmbaDoIqKoQ==
        useless.example. 3600 IN MX 10 mx.useless.example.
        useless.example. 3600 IN RRSIG MX 13 2 3600 20840101000000 20200101000000 27844 . RrddpYkeofsPvhGWya18BTEk31NcmgK+ CH91EMez5WAUCBW6W0USPKjpB2orSF16 y1mBYGjLSKgTz7otsc3n0g==
        useless.example. 3600 IN NSEC mx.useless.example. MX RRSIG NSEC
        useless.example. 3600 IN RRSIG NSEC 13 2 3600 20840101000000 20200101000000 27844 . 18vrNpcd7cCYsjhT5qT8074oZGiMQR/g XT0froreDhZsOOiBCXSPTYxm7BBYEJ8D HVcEgdgZWZNmbWBSZkBwAg==
        mx.useless.example. 3600 IN A 127.0.1.1
        mx.useless.example. 3600 IN RRSIG A 13 3 3600 20840101000000 20200101000000 27844 . EdU5HCKDblBb5I8O/viN59fNOI9JpNDy ntk+mLkP53BNpOO4R/dYz+twJ8kgKu7+ 9X2CW4Z/D27vMW5B6+/3xA==
        mx.useless.example. 3600 IN NSEC *._tcp.mx.useless.example. A RRSIG NSEC
        mx.useless.example. 3600 IN RRSIG NSEC 13 3 3600 20840101000000 20200101000000 27844 . cXbyqDanYIXr8kNXDgp94EObeLOOlQ3r wEJu2sKwtJCKqvfH/sNMqGMGi0iIHEe5 KIyWee06Xm3iAkHKpATDWw==
        *._tcp.mx.useless.example. 3600 IN TLSA 1 1 1 cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
        *._tcp.mx.useless.example. 3600 IN RRSIG TLSA 13 4 3600 20840101000000 20200101000000 27844 . B1AwGBIjkTy2zBf09lIgmVq1c4RXphGE +2mILIaaNvg7mY7YCql1WnRSArbP1/Ym qRg7r9p1R3jbgP/yIGL2BA==
        *._tcp.mx.useless.example. 3600 IN NSEC www.example. RRSIG NSEC TLSA
        *._tcp.mx.useless.example. 3600 IN RRSIG NSEC 13 4 3600 20840101000000 20200101000000 27844 . hSft6otn15eIChoZf0l0JmHCZyQJhcmR HFVkCqe6qwmbH34+jgF1N7x9yxTxPso1 kvd3YLhYvSnQXyRCjGoliQ==
        www.example. 3600 IN CNAME mx.good.example.
        www.example. 3600 IN RRSIG CNAME 13 2 3600 20840101000000 20200101000000 27844 . f9E6CCigRlINc9fgO6e8ivrcabgIUdDS lfj+IRYEbsbFpmFRIlqJjPma/ODcNoPr bGjM+5MWOU9DYV/d2Hpieg==
        www.example. 3600 IN NSEC ns. CNAME RRSIG NSEC
        www.example. 3600 IN RRSIG NSEC 13 2 3600 20840101000000 20200101000000 27844 . fUdG1vBt9YTMgcIK2lVyy7us/mrCwy+B dLimjkpG23/EPX0Wb5kK+lzFzUTek/n5 l0rQwhHyjwdh7hV53oR5Pw==
        ns. 3600 IN A 127.0.0.1
        ns. 3600 IN RRSIG A 13 1 3600 20840101000000 20200101000000 27844 . 58Al32Dk7w7Ymy5Tdl8mi38LOpJo+w6c dko/FlpkDp9xDU8P5H7qRpS0Zl8eiLX8 k6ozBT0jvfXRA/3IRiLPLQ==
        ns. 3600 IN NSEC unsigned. A RRSIG NSEC
        ns. 3600 IN RRSIG NSEC 13 1 3600 20840101000000 20200101000000 27844 . ShvRToiI6wvgo02X8oC6z79gtWANZ1pi oq8FwYHET5j5+tBdcTZUvrgEtwRvRt7Q 51SwS2EVmQ8RzXcGGTgwPg==
        unsigned. 3600 IN NS ns.
        unsigned. 3600 IN NSEC . NS RRSIG NSEC
        unsigned. 3600 IN RRSIG NSEC 13 1 3600 20840101000000 20200101000000 27844 . 6bA0qmS3s3WS2p9NhFoSGTBqEjap3sjP +iullm3sjfF/TEppGZ7tR1CvExwiwd6E 2RiJQOwp8zQBclV6VuvOiQ==
        """
}
