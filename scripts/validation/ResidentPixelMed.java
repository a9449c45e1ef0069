import com.pixelmed.validate.DicomSRValidator;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;

/** PixelMed's DicomSRValidator for many files: reads paths, a line each, and answers each as its own main program does,
    with a line more that says that this was all. */
final class ResidentPixelMed {
    public static void main(String[] arguments) throws Exception {
        DicomSRValidator validator = new DicomSRValidator();
        BufferedReader paths = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String path = paths.readLine(); path != null; path = paths.readLine()) {
            try {
                System.out.println(validator.validate(path));
            } catch (Exception failure) {
                System.out.println("Error: " + failure);
            }
            System.out.println("--- end of file ---");
        }
    }
}
