import Foundation
import Testing

@testable import Console

@Suite struct PasswordHashTests {
    /// RFC 7914 §12, without the one that takes 1 GiB.
    @Test(arguments: [
        ("", "", 4, 1, 1, "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442"),
        ("password", "NaCl", 10, 8, 16, "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"),
        (
            "pleaseletmein", "SodiumChloride", 14, 8, 1,
            "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
        ),
    ])
    func givesTheVectorsOfTheRFC(password: String, salt: String, logN: Int, r: Int, p: Int, hash: String) {
        // The first half of the 64 bytes: PBKDF2 works out block after block.
        let found = PasswordHash.scrypt(password, Array(salt.utf8), logN: logN, r: r, p: p, count: 32)
        #expect(found.map { String(format: "%02x", $0) }.joined() == hash)
    }

    private static let salt = "AAECAwQFBgcICQoLDA0ODw"
    private static let hash = "ikKPemj5QQtFYut78rUxRFQWyVagMIehX9iNR3YyczQ"

    /// Written by Python's hashlib.scrypt.
    @Test func readsWhatOthersWrote() throws {
        let hash = try #require(PasswordHash("$scrypt$ln=15,r=8,p=1$\(Self.salt)$\(Self.hash)"))
        #expect(hash.matches("korrektes Pferd ä"))
        #expect(!hash.matches("korrektes Pferd a"))
        #expect(!hash.matches(""))
        #expect(!hash.matches("korrektes Pferd ä "))
    }

    @Test func writesWhatItReads() throws {
        let made = PasswordHash(of: "correct horse battery")
        let read = try #require(PasswordHash(made.text))
        #expect(read == made && read.matches("correct horse battery"))
        #expect(PasswordHash(of: "correct horse battery") != made, "each has a salt of its own")
    }

    @Test func anOverlongPasswordIsNotWorkedOut() {
        let longest = String(repeating: "x", count: PasswordHash.mostBytes)
        let hash = PasswordHash(of: longest)
        #expect(hash.matches(longest))
        #expect(!PasswordHash(of: longest + "x").matches(longest + "x"))
    }

    @Test(arguments: [
        "", "secret", "$scrypt$ln=15,r=8,p=1$\(salt)", "$2b$12$abcdefghijklmnopqrstuv",
        "$argon2id$ln=15,r=8,p=1$\(salt)$\(hash)",
        "$scrypt$ln=13,r=8,p=1$\(salt)$\(hash)", "$scrypt$ln=18,r=8,p=1$\(salt)$\(hash)",
        "$scrypt$ln=15,r=7,p=1$\(salt)$\(hash)", "$scrypt$ln=15,r=17,p=1$\(salt)$\(hash)",
        "$scrypt$ln=15,r=8,p=0$\(salt)$\(hash)", "$scrypt$ln=15,r=8,p=5$\(salt)$\(hash)",
        "$scrypt$r=8,ln=15,p=1$\(salt)$\(hash)", "$scrypt$ln=15,r=8$\(salt)$\(hash)",
        "$scrypt$ln=+15,r=8,p=1$\(salt)$\(hash)", "$scrypt$ln=015,r=8,p=1$\(salt)$\(hash)",
        "$scrypt$ln=15,r=8,p=1$\(salt)==$\(hash)", "$scrypt$ln=15,r=8,p=1$AAEC$\(hash)",
        "$scrypt$ln=15,r=8,p=1$\(salt)$\(salt)", "$scrypt$ln=15,r=8,p=1$\(salt)$\(hash)$",
        "$scrypt$ln=15,r=8,p=1$\(salt)$not base64", "x$scrypt$ln=15,r=8,p=1$\(salt)$\(hash)",
    ])
    func refusesWhatIsNone(text: String) { #expect(PasswordHash(text) == nil) }
}
