// Text of a data set as UTF-8.
#pragma once
#include <string>
#include <vector>

namespace compose {

/// Opens all conversion tables, which stay open: later conversion touches no file.
void open_text_converters();

/// A line for each set that text is converted from: ISO-IR number and bytes of a character, or a defined term without
/// code extensions.
std::string character_sets();

/// Decodes text by Specific Character Set (0008,0005), with code extensions (PS3.5 §6.1.2.5). The DCMTK at hand cannot
/// where iconv is the C library's: that has no table named for ISO-IR 87, the set of Japanese names.
class TextDecoder {
  public:
    /// - declared: the attribute's value, `\` between values.
    explicit TextDecoder(const std::string &declared);

    /// - delimiters: characters at which code extensions are reset.
    std::string utf8(const std::string &bytes, const char *delimiters);

    /// Whether any text so far was not of the declared set: read as UTF-8 or Latin-1, with ? for what cannot stand.
    bool has_guessed = false;

  private:
    bool decode(const std::string &bytes, const char *delimiters, std::string &out) const;

    /// The whole text is of this encoding; empty where code extensions may occur.
    std::string whole;
    /// ISO-IR number of the set that G1 holds at first; 0: none.
    int first_set = 0;
};

} // namespace compose
