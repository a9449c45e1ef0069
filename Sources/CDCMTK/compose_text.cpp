#include "compose_text.hpp"

#include "compose_internal.hpp"

#include <iconv.h>

#include <algorithm>
#include <cstring>
#include <map>

namespace compose {
namespace {

/// A code element of ISO 2022 that DICOM names (PS3.3 Tables C.12-2 to C.12-4), by ISO-IR number.
struct Set {
    int number;
    /// What follows ESC to designate it.
    const char *escape;
    /// 0 or 1: G0 (bytes below 0x80) or G1.
    int element;
    int bytes_per_character;
    /// iconv's name of an encoding that has the set's characters at their codes plus 0x80; NULL: ASCII, or katakana.
    const char *encoding;
};

const Set sets[] = {
    {6, "(B", 0, 1, nullptr},
    {14, "(J", 0, 1, nullptr}, // romaji: ASCII but for ¥ and ‾, which stand where the delimiters have to be seen
    {100, "-A", 1, 1, "ISO-8859-1"},
    {101, "-B", 1, 1, "ISO-8859-2"},
    {109, "-C", 1, 1, "ISO-8859-3"},
    {110, "-D", 1, 1, "ISO-8859-4"},
    {144, "-L", 1, 1, "ISO-8859-5"},
    {127, "-G", 1, 1, "ISO-8859-6"},
    {126, "-F", 1, 1, "ISO-8859-7"},
    {138, "-H", 1, 1, "ISO-8859-8"},
    {148, "-M", 1, 1, "ISO-8859-9"},
    {203, "-b", 1, 1, "ISO-8859-15"},
    {166, "-T", 1, 1, "TIS-620"},
    {13, ")I", 1, 1, nullptr},
    {87, "$B", 0, 2, "EUC-JP"},
    {159, "$(D", 0, 2, "EUC-JP"},
    {149, "$)C", 1, 2, "EUC-KR"},
    {58, "$)A", 1, 2, "EUC-CN"},
};

/// Without code extensions. JIS X 0201 (ISO_IR 13) is a part of Shift JIS, which is what some senders mean by it.
struct Whole {
    const char *term;
    const char *encoding;
};
const Whole wholes[] = {
    {"ISO_IR 192", "UTF-8"}, {"GB18030", "GB18030"}, {"GBK", "GBK"}, {"ISO_IR 13", "SHIFT_JIS"},
};

const Set *set_of(int number) {
    for (const Set &set : sets)
        if (set.number == number) return &set;
    return nullptr;
}

std::map<std::string, iconv_t> &converters() {
    static auto *open = new std::map<std::string, iconv_t>;
    return *open;
}

bool convert(const char *encoding, const std::string &bytes, std::string &out) {
    const auto found = converters().find(encoding);
    if (found == converters().end()) return false;
    iconv(found->second, nullptr, nullptr, nullptr, nullptr);
    // Four bytes of UTF-8 for each byte are enough for all of these.
    std::string buffer(bytes.size() * 4 + 4, '\0');
    char *in = const_cast<char *>(bytes.data());
    size_t in_left = bytes.size();
    char *to = &buffer[0];
    size_t to_left = buffer.size();
    if (iconv(found->second, &in, &in_left, &to, &to_left) == static_cast<size_t>(-1) || in_left != 0) return false;
    out.append(buffer.data(), buffer.size() - to_left);
    return true;
}

/// One character of a set; `bytes` without their high bits.
bool append(const Set &set, std::string bytes, std::string &out) {
    const auto first = static_cast<unsigned char>(bytes[0]);
    if (set.number == 13) {
        if (first < 0x21 || first > 0x5F) return false;
        const unsigned katakana = 0xFF61 + first - 0x21;
        out += {static_cast<char>(0xEF), static_cast<char>(0x80 | (katakana >> 6 & 0x3F)),
                static_cast<char>(0x80 | (katakana & 0x3F))};
        return true;
    }
    for (char &byte : bytes) byte = static_cast<char>(byte | 0x80);
    // JIS X 0212 is the third code set of EUC-JP.
    return convert(set.encoding, set.number == 159 ? "\x8F" + bytes : bytes, out);
}

const Set *designated(const std::string &bytes, size_t at) {
    for (const Set &set : sets)
        if (bytes.compare(at, std::strlen(set.escape), set.escape) == 0) return &set;
    return nullptr;
}

/// JIS X 0201 has ¥ and ‾ where ASCII has \ and ~ (PS3.5 §6.1.2.3): \ has to be seen as what separates values. No other
/// character of the set is read as either.
void restore_ascii(std::string &text) {
    const struct {
        const char *from, *to;
    } pairs[] = {{"\xC2\xA5", "\\"}, {"\xE2\x80\xBE", "~"}};
    for (const auto &pair : pairs)
        for (size_t at = text.find(pair.from); at != std::string::npos; at = text.find(pair.from, at + 1))
            text.replace(at, std::strlen(pair.from), pair.to);
}

/// Puts ? in place of control characters but those of PS3.5 §6.1.3.
/// - Returns: whether there were any.
bool replace_controls(std::string &text) {
    std::string result;
    for (size_t at = 0; at < text.size(); at++) {
        const auto byte = static_cast<unsigned char>(text[at]);
        const bool is_c0 = (byte < 0x20 && (byte == 0 || !std::strchr("\t\n\f\r", byte))) || byte == 0x7F;
        const bool is_c1 = byte == 0xC2 && at + 1 < text.size() && static_cast<unsigned char>(text[at + 1]) < 0xA0;
        result += is_c0 || is_c1 ? '?' : text[at];
        if (is_c1) at++;
    }
    const bool had_any = result != text;
    text = result;
    return had_any;
}

/// For text that is not of the character set that the file declares. Scanners without a declaration send Latin-1, or
/// UTF-8: reads either. A result under a name with a wrong letter is safer than none; IDs are ASCII in practice.
std::string guessed(const std::string &bytes) {
    std::string result;
    if (convert("UTF-8", bytes, result)) return result;
    for (char character : bytes) {
        const auto byte = static_cast<unsigned char>(character);
        if (byte < 0x80) {
            result += character;
        } else {
            result += {static_cast<char>(0xC0 | (byte >> 6)), static_cast<char>(0x80 | (byte & 0x3F))};
        }
    }
    return result;
}

} // namespace

std::string character_sets() {
    std::string lines;
    for (const Set &set : sets)
        lines += std::to_string(set.number) + " " + std::to_string(set.bytes_per_character) + "\n";
    for (const Whole &each : wholes) lines += std::string(each.term) + "\n";
    return lines;
}

void open_text_converters() {
    const auto open = [](const char *encoding) {
        if (encoding == nullptr || converters().count(encoding) != 0) return;
        const iconv_t converter = iconv_open("UTF-8", encoding);
        if (converter == reinterpret_cast<iconv_t>(-1))
            throw Failure(std::string("no conversion from character set ") + encoding);
        converters()[encoding] = converter;
    };
    for (const Set &set : sets) open(set.encoding);
    for (const Whole &each : wholes) open(each.encoding);
}

TextDecoder::TextDecoder(const std::string &declared) {
    // Code extensions are recognised by their escape sequences, declared or not: the first value says all else.
    std::string first = declared.substr(0, declared.find('\\'));
    while (!first.empty() && first.back() == ' ') first.pop_back();
    const bool is_only = declared.find('\\') == std::string::npos;
    for (const Whole &each : wholes)
        if (first == each.term && (is_only || first != "ISO_IR 13")) whole = each.encoding;
    const size_t number = first.find("IR ");
    if (number != std::string::npos) first_set = std::atoi(first.c_str() + number + 3);
}

std::string TextDecoder::utf8(const std::string &bytes, const char *delimiters) {
    std::string result;
    const bool is_of_set = decode(bytes, delimiters, result);
    if (!is_of_set) result = guessed(bytes);
    if (replace_controls(result) || !is_of_set) has_guessed = true;
    return result;
}

bool TextDecoder::decode(const std::string &bytes, const char *delimiters, std::string &out) const {
    if (!whole.empty()) {
        if (!convert(whole.c_str(), bytes, out)) return false;
        if (whole == "SHIFT_JIS") restore_ascii(out);
        return true;
    }
    const Set *const ascii = set_of(6);
    const Set *const first = set_of(first_set);
    const Set *initial[2] = {ascii, first != nullptr && first->element == 1 ? first : nullptr};
    const Set *current[2] = {initial[0], initial[1]};
    for (size_t at = 0; at < bytes.size();) {
        const auto byte = static_cast<unsigned char>(bytes[at]);
        if (byte == 0x1B) {
            const Set *set = designated(bytes, at + 1);
            if (set == nullptr) return false;
            current[set->element] = set;
            at += 1 + std::strlen(set->escape);
            continue;
        }
        const Set *set = current[byte < 0x80 ? 0 : 1];
        if (set == nullptr) return false;
        if (byte < 0x20 || (set->element == 0 && set->bytes_per_character == 1) || byte == ' ') {
            // Control characters and delimiters reset (PS3.5 §6.1.2.5.3).
            if (byte < 0x20 || std::strchr(delimiters, byte) != nullptr) std::copy(initial, initial + 2, current);
            out += static_cast<char>(byte);
            at++;
            continue;
        }
        const size_t count = static_cast<size_t>(set->bytes_per_character);
        if (at + count > bytes.size()) return false;
        std::string character = bytes.substr(at, count);
        for (char &each : character) each = static_cast<char>(each & 0x7F);
        if (!append(*set, character, out)) return false;
        at += count;
    }
    return true;
}

} // namespace compose
